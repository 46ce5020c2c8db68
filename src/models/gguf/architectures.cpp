#include "models/gguf/architectures.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

constexpr std::array kTable{
    GgufArchitecture{"bert", "bert", false, true, true, true, true},
    GgufArchitecture{"bloom", "bloom", false, true, true, true, true},
    GgufArchitecture{"falcon", "falcon", false, false, false, false, true},
    GgufArchitecture{"gemma2", "gemma2", false, false, false, false, true},
    GgufArchitecture{"gpt2", "gpt2", false, true, true, true, true},
    GgufArchitecture{"starcoder", "gpt_bigcode", false, true, true, true, true},
    GgufArchitecture{"gptneox", "gpt_neox", false, true, true, true, true},
    GgufArchitecture{"granite", "granite", true, true, true, true, false},
    GgufArchitecture{"llama", "llama", true, true, true, true, false},
    GgufArchitecture{"llama", "mistral", true, false, false, false, false},
    GgufArchitecture{"llama", "mixtral", true, false, false, false, false},
    GgufArchitecture{"olmo2", "olmo2", false, false, false, false, false},
    GgufArchitecture{"phi3", "phi3", false, false, false, false, false},
    GgufArchitecture{"qwen2", "qwen2", false, true, false, false, false},
    GgufArchitecture{"qwen3", "qwen3", false, false, false, false, false},
    GgufArchitecture{"bert", "roberta", false, true, true, true, true},
    GgufArchitecture{"starcoder2", "starcoder2", false, true, true, true, true},
    GgufArchitecture{"t5", "t5"},
};

bool all_biases(std::string_view architecture) {
  return architecture == "bloom" || architecture == "gpt2" || architecture == "starcoder" ||
         architecture == "gptneox" || architecture == "starcoder2";
}

/// Gathers what an architecture cannot say; the first thing is the error.
class Check {
 public:
  Check(const Config& config, const GgufArchitecture& architecture)
      : config_(config), architecture_(architecture) {}

  /// What is wrong; empty: nothing.
  std::string run() {
    check_parts();
    check_positions();
    check_attention();
    check_encoders();
    return problem_;
  }

 private:
  void require(bool fine, const std::string& what) {
    if (!fine && problem_.empty()) problem_ = what;
  }
  [[nodiscard]] bool is(std::string_view architecture) const {
    return architecture_.name == architecture;
  }

  void check_parts() {
    const bool gelu =
        config_.activation == Activation::gelu_erf || config_.activation == Activation::gelu_tanh;
    require(is("t5") || (architecture_.gelu ? gelu : config_.activation == Activation::silu),
            "an activation that is not " + std::string(architecture_.gelu ? "gelu" : "silu"));
    require(architecture_.qkv_bias || !config_.qkv_bias, "biases of q, k and v (attention_bias)");
    require(architecture_.output_bias || !config_.attention_output_bias,
            "a bias of the attention's output (attention_bias)");
    require(architecture_.mlp_bias || !config_.mlp_bias, "biases of the MLP (mlp_bias)");
    require(!all_biases(architecture_.name) ||
                (config_.qkv_bias && config_.attention_output_bias && config_.mlp_bias),
            "layers without biases");
    require(!is("qwen2") || config_.qkv_bias, "q, k and v without biases");
    require(!is("bloom") || config_.n_inner == 4 * config_.n_embd,
            "an MLP that is not 4 times as wide as the model");
    require(!is("starcoder") || config_.n_kv_head == 1, "multi_query false");
    require(!is("falcon") || config_.residual == Residual::parallel,
            "parallel_attn false (falcon-rw)");
    require(!is("gemma2") || config_.tie_word_embeddings, "a head of its own");
    require(!is("gptneox") || !config_.tie_word_embeddings, "a tied head");
  }

  void check_positions() {
    require(!is("falcon") || config_.positions == Positions::rotary, "alibi true");
    if (config_.positions != Positions::rotary) return;
    const Rotary& rotary = config_.rotary;
    require(rotary.scaling != RotaryScaling::dynamic, "rope_type dynamic");
    require(rotary.scaling != RotaryScaling::llama3 || is("llama") || is("granite"),
            "rope_type llama3");
    if (rotary.scaling == RotaryScaling::yarn) {
      const Rotary standard;
      const float factor = 0.1f * std::log(rotary.factor) + 1.0f;
      require(std::fabs(rotary.attention_factor - factor) <= 1e-6f * factor,
              "rope_type yarn with an attention_factor of " +
                  std::to_string(rotary.attention_factor) + ", not " + std::to_string(factor));
      require(rotary.beta_fast == standard.beta_fast && rotary.beta_slow == standard.beta_slow &&
                  rotary.truncate,
              "rope_type yarn with other values of beta_fast, beta_slow or truncate than 32, 1 and "
              "true");
    }
    require(rotary.dims == config_.head_dim || is("phi3") || is("gptneox"),
            "rotary positions of a part of a head");
  }

  void check_attention() {
    require(!config_.scale_by_layer, "scale_attn_by_inverse_layer_idx true");
    if (!is("granite") && !is("t5")) {
      const float wanted = 1.0f / std::sqrt(static_cast<float>(scale_dims()));
      require(std::fabs(config_.attention_scale - wanted) <= 1e-6f * wanted,
              "an attention scale of " + std::to_string(config_.attention_scale) + ", not " +
                  std::to_string(wanted));
    }
    if (is("gemma2")) {
      for (std::int64_t n = 0; n < config_.n_layer; ++n) {
        require(config_.window(n) == (n % 2 == 0 ? config_.window(0) : 0) && config_.window(0) > 0,
                "layer_types other than a sliding window in every other layer");
      }
    } else if (!is("phi3") && !is("starcoder2")) {
      require(config_.windows.empty() || config_.model_type == "mistral", "a sliding window");
    }
  }

  void check_encoders() {
    if (is("bert")) {
      require(config_.activation == Activation::gelu_erf,
              "an activation that is not gelu (hidden_act)");
    }
    if (!is("t5")) return;
    require(config_.activation == (config_.gated_mlp ? Activation::gelu_tanh : Activation::relu),
            "feed_forward_proj other than relu and gated-gelu");
    require(config_.relative.max_distance == Relative{}.max_distance,
            "relative_attention_max_distance " + std::to_string(config_.relative.max_distance) +
                ", not " + std::to_string(Relative{}.max_distance));
  }

  /// llama.cpp knows Gemma 2's largest model by its 46 layers, whose query_pre_attn_scalar differs.
  [[nodiscard]] std::int64_t scale_dims() const {
    return is("gemma2") && config_.n_layer == 46 ? config_.n_embd / config_.n_head
                                                 : config_.head_dim;
  }

  const Config& config_;
  const GgufArchitecture& architecture_;
  std::string problem_;
};

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() noexcept {
  return kTable;
}

const GgufArchitecture* gguf_architecture_of(std::string_view model_type) noexcept {
  const auto* it = std::find_if(
      kTable.begin(), kTable.end(),
      [&](const GgufArchitecture& architecture) { return architecture.model_type == model_type; });
  return it == kTable.end() ? nullptr : it;
}

std::string gguf_architecture_names() {
  std::vector<std::string_view> names;
  for (const GgufArchitecture& each : kTable) names.push_back(each.name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string text;
  for (const std::string_view name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

const GgufArchitecture& require_gguf_architecture(const Config& config, const std::string& where) {
  const GgufArchitecture* found = gguf_architecture_of(config.model_type);
  if (found == nullptr) {
    throw Error(ErrorCode::unsupported,
                where + ": there is no GGUF architecture for the model_type " +
                    std::string(config.model_type) + "; there are: " + gguf_architecture_names());
  }
  const std::string problem = Check(config, *found).run();
  if (!problem.empty()) {
    throw Error(ErrorCode::unsupported, where + ": GGUF's architecture " +
                                            std::string(found->name) + " cannot say: " + problem);
  }
  return *found;
}

}  // namespace kvant::models
