#include "kvant/models/adapter.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json/json_tree.hpp"
#include "io/text/quoting.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/kernel_table.hpp"
#include "models/load/config_reader.hpp"
#include "models/text/regex.hpp"

namespace kvant::models {
namespace {

constexpr std::string_view kModelPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight";
constexpr std::string_view kB = ".lora_B.weight";

/// Members of adapter_config.json that make it another method than plain LoRA where they are set.
constexpr std::array kOtherMethods = {
    "use_dora",        "use_qalora",        "lora_bias",         "alora_invocation_tokens",
    "arrow_config",    "layer_replication", "target_parameters", "trainable_token_indices",
    "modules_to_save", "alpha_pattern",     "use_bdlora",        "velora_config",
    "kasa_config",     "monteclora_config", "megatron_config",   "exclude_modules",
    "layers_pattern"};
/// Initializations that change the model's own weights, which are not in the adapter.
constexpr std::array<std::string_view, 5> kChangingStarts = {"pissa", "olora", "loftq", "corda",
                                                             "lora_ga"};

bool is_set(const nlohmann::json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  return !value.empty();
}

/// What adapter_config.json says.
class AdapterConfig {
 public:
  AdapterConfig(const nlohmann::json& json, const std::string& file) : reader_(json, file) {
    const std::string type = reader_.text("peft_type", "");
    if (type != "LORA") {
      reader_.unsupported("peft_type " + io::in_quotes(type) + " is not LORA");
    }
    for (const char* name : kOtherMethods) {
      const nlohmann::json* value = reader_.find(name);
      if (value != nullptr && is_set(*value)) {
        reader_.unsupported(std::string(name) + " is " + value->dump().substr(0, 60) +
                            ", which is not supported");
      }
    }
    const std::string bias = reader_.text("bias", "none");
    if (bias != "none") {
      reader_.unsupported("bias " + io::in_quotes(bias) + " is not none");
    }
    if (const nlohmann::json* start = reader_.find("init_lora_weights");
        start != nullptr && start->is_string()) {
      for (const std::string_view each : kChangingStarts) {
        if (!start->get_ref<const std::string&>().starts_with(each)) continue;
        reader_.unsupported("init_lora_weights " + start->dump().substr(0, 40) +
                            " changes the model's own weights, which an adapter does not hold; "
                            "convert it with PEFT (path_initial_model_for_weight_conversion)");
      }
    }
    reader_.integer(rank_, 1, 1 << 20, "r");
    reader_.number(alpha_, "lora_alpha");
    reader_.boolean(root_of_rank_, "use_rslora");
    reader_.boolean(fan_in_fan_out_, "fan_in_fan_out");
    const nlohmann::json* ranks = reader_.find("rank_pattern");
    ranks_differ_ = ranks != nullptr && is_set(*ranks);
    read_layers();
    read_targets();
  }

  [[nodiscard]] bool fan_in_fan_out() const noexcept { return fan_in_fan_out_; }

  /// PEFT ignores what target_modules does not name: such a file is not what it seems.
  [[nodiscard]] bool is_target(const std::string& module) const {
    return is_in_layers(module) && is_named(module);
  }

  [[nodiscard]] float scale(const std::string& module, std::int64_t rank) const {
    if (rank != rank_ && !ranks_differ_) {
      reader_.invalid("r is " + std::to_string(rank_) + ", the matrices of " +
                      io::in_quotes(module) + " have a rank of " + std::to_string(rank));
    }
    const auto divisor = static_cast<float>(rank);
    return alpha_ / (root_of_rank_ ? std::sqrt(divisor) : divisor);
  }

 private:
  [[nodiscard]] bool is_named(const std::string& module) const {
    if (all_linear_) return true;
    if (pattern_) {
      const Regex::Match match = pattern_->find(module, 0);
      return match.begin == 0 && match.end == module.size();
    }
    for (const std::string& name : names_) {
      if (module == name || module.ends_with("." + name)) return true;
    }
    return false;
  }

  /// The number in a module's name: "h.3.mlp" is in layer 3.
  [[nodiscard]] bool is_in_layers(const std::string& module) const {
    if (layers_.empty()) return true;
    std::int64_t layer = -1;
    for (std::size_t dot = module.find('.'); dot != std::string::npos;
         dot = module.find('.', dot + 1)) {
      const char* const end = module.data() + module.size();
      std::int64_t number = -1;
      const auto [rest, error] = std::from_chars(module.data() + dot + 1, end, number);
      if (error == std::errc() && rest != end && *rest == '.') layer = number;
    }
    return std::find(layers_.begin(), layers_.end(), layer) != layers_.end();
  }

  void read_layers() {
    const nlohmann::json* layers = reader_.find("layers_to_transform");
    if (layers == nullptr || layers->is_null()) return;
    const nlohmann::json list = layers->is_array() ? *layers : nlohmann::json::array({*layers});
    for (const nlohmann::json& layer : list) {
      if (!layer.is_number_integer()) {
        reader_.invalid("layers_to_transform holds " + layer.dump().substr(0, 40));
      }
      layers_.push_back(layer.get<std::int64_t>());
    }
  }

  void read_targets() {
    const nlohmann::json* targets = reader_.find("target_modules");
    if (targets != nullptr && targets->is_string()) {
      const auto& text = targets->get_ref<const std::string&>();
      all_linear_ = text == "all-linear";
      if (!all_linear_) pattern_.emplace("\\A(?:" + text + ")\\z");
      return;
    }
    if (targets == nullptr || !targets->is_array() || targets->empty()) {
      reader_.invalid("target_modules is neither a list of names nor a pattern");
    }
    for (const nlohmann::json& name : *targets) {
      if (!name.is_string()) reader_.invalid("target_modules holds " + name.dump().substr(0, 40));
      names_.push_back(name.get<std::string>());
    }
  }

  ConfigReader reader_;
  std::int64_t rank_ = 8;
  float alpha_ = 8.0f;
  bool root_of_rank_ = false;
  bool fan_in_fan_out_ = false;
  bool ranks_differ_ = false;
  bool all_linear_ = false;
  std::vector<std::string> names_;
  std::vector<std::int64_t> layers_;  ///< none: all
  std::optional<Regex> pattern_;
};

Matrix<float> read_matrix(const io::SafeTensors& file, const std::string& name) {
  const io::TensorView tensor = file.tensor(name);
  const std::vector<std::uint64_t>& shape = tensor.info->shape;
  const DType dtype = tensor.info->dtype;
  const bool floating =
      dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
  if (shape.size() != 2 || !floating || shape[0] == 0 || shape[1] == 0) {
    throw Error(ErrorCode::invalid_file, file.name() + ": tensor " + io::in_quotes(name) +
                                             " is no matrix of float32, float16 or bfloat16");
  }
  Matrix<float> result(static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1]));
  default_context().kernels().convert(
      {tensor.data.data(), dtype, result.data(), DType::float32, result.rows() * result.cols()});
  for (std::int64_t i = 0; i < result.rows() * result.cols(); ++i) {
    if (std::isfinite(result.data()[i])) continue;
    throw Error(ErrorCode::not_finite, file.name() + ": tensor " + io::in_quotes(name) +
                                           ": element " + std::to_string(i) + " is not finite");
  }
  return result;
}

}  // namespace

AdapterWeights load_adapter(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "adapter_config.json";
  const nlohmann::json json = io::read_json_tree(config_path);
  const std::string config_name = config_path.string();
  const AdapterConfig config(json, config_name);
  const io::SafeTensors file(folder / "adapter_model.safetensors");
  const auto invalid = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_file, file.name() + ": " + what);
  };
  AdapterWeights result;
  result.folder = folder;
  result.fan_in_fan_out = config.fan_in_fan_out();
  for (const io::TensorInfo& info : file.tensors()) {
    const std::string& name = info.name;
    const bool is_b = name.ends_with(kB);
    if (!name.starts_with(kModelPrefix) || (!is_b && !name.ends_with(kA))) {
      throw Error(ErrorCode::unsupported,
                  file.name() + ": tensor " + io::in_quotes(name) +
                      " is not MODULE.lora_A.weight or MODULE.lora_B.weight of a linear layer");
    }
    const std::string module =
        name.substr(kModelPrefix.size(), name.size() - kModelPrefix.size() - kA.size());
    const std::string base = std::string(kModelPrefix) + module;
    if (!file.contains(base + std::string(is_b ? kA : kB))) {
      invalid("module " + io::in_quotes(module) + " has only one of lora_A and lora_B");
    }
    if (is_b) continue;
    if (!config.is_target(module)) {
      invalid("module " + io::in_quotes(module) +
              " is none of adapter_config.json's target_modules, or in none of its "
              "layers_to_transform");
    }
    io::LowRankChange change;
    change.a = read_matrix(file, name);
    change.b = read_matrix(file, base + std::string(kB));
    if (change.a.rows() != change.b.cols()) {
      invalid("module " + io::in_quotes(module) + ": lora_A has a rank of " +
              std::to_string(change.a.rows()) + ", lora_B of " + std::to_string(change.b.cols()));
    }
    change.scale = config.scale(module, change.a.rows());
    result.layers.emplace(module, std::move(change));
  }
  if (result.layers.empty()) invalid("there is no layer in it");
  return result;
}

io::CheckpointSummary merge_adapter(const std::filesystem::path& model,
                                    const std::filesystem::path& adapter,
                                    const std::filesystem::path& output,
                                    io::MergeCheckpointOptions options) {
  const AdapterWeights weights = load_adapter(adapter);
  options.transposed = weights.fan_in_fan_out;
  return io::merge_checkpoint(model, output, weights.layers, options);
}

}  // namespace kvant::models
