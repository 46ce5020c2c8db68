#include "kvant/models/generate.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "kvant/error.hpp"
#include "models/decoder/likelihood.hpp"

namespace kvant::models {
namespace {

/// -log softmax(logits)[target], summed in double.
double negative_log_likelihood(std::span<const float> logits, TokenId target) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - largest));
  return std::log(sum) + static_cast<double>(largest) -
         static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

}  // namespace

std::vector<TokenId> generate(Context& context, const Model& model, std::span<const TokenId> prompt,
                              const GenerateOptions& options) {
  if (prompt.empty()) {
    throw Error(ErrorCode::invalid_argument, "the prompt has no ids");
  }
  const Config& config = model.config;
  if (config.kind == ModelKind::encoder) {
    throw Error(ErrorCode::unsupported, std::string(config.model_type) +
                                            " is an encoder: it reads a text (encode()), and does "
                                            "not continue it");
  }
  Sampler sampler(options.sampling);
  Cache cache(options.kv);
  const auto start = static_cast<TokenId>(config.decoder_start_id);
  if (config.kind == ModelKind::encoder_decoder) {
    read_source(context, model, prompt, cache);
    prompt = {&start, 1};
  }
  const auto length = static_cast<std::int64_t>(prompt.size());
  // Beyond the training's length memory grows as it is needed.
  const std::int64_t room = std::max<std::int64_t>(0, config.n_positions - length);
  cache.reserve(model.block_config(), length + std::min(options.tokens, room));
  cache.cancel = options.cancel;
  std::vector<float> hidden;
  // False: it was cancelled on its way; what was found is the result.
  const auto run = [&](auto&& call) {
    try {
      hidden = call();
      return true;
    } catch (const Error& error) {
      // Of ranks it may be the failure of another one: that is no result.
      if (error.code() == ErrorCode::cancelled && !model.split) return false;
      throw;
    }
  };
  if (!run([&] { return prefill(context, model, prompt, cache); })) return {};
  std::vector<float> logits(static_cast<std::size_t>(config.vocab_size));
  const auto ends = [&](TokenId id) {
    if (options.ignore_eos) return false;
    return config.is_eos(id) || std::find(options.more_end_ids.begin(), options.more_end_ids.end(),
                                          id) != options.more_end_ids.end();
  };
  std::vector<TokenId> result;
  constexpr TokenId kStop = -1;
  const auto cancelled = [&] { return options.cancel != nullptr && *options.cancel; };
  while (static_cast<std::int64_t>(result.size()) < options.tokens) {
    if (!model.split && cancelled()) break;
    compute_logits(context, model, {hidden.data(), 1, config.n_embd},
                   {logits.data(), 1, config.vocab_size});
    TokenId next = sampler.choose(logits);
    if (model.split) {  // rank 0 decides, or a rank that stops earlier would leave others waiting
      if (cancelled()) next = kStop;
      model.split->ranks->broadcast(std::as_writable_bytes(std::span(&next, 1)));
      if (next == kStop) break;
    }
    result.push_back(next);
    if (options.on_token) options.on_token(next);
    if (ends(next) || cache.length == config.position_limit()) break;
    if (static_cast<std::int64_t>(result.size()) == options.tokens) break;
    if (!run([&] { return forward(context, model, {&next, 1}, cache); })) break;
  }
  return result;
}

std::vector<TokenId> generate(Context& context, const Model& model, std::span<const TokenId> prompt,
                              std::int64_t tokens, const std::function<void(TokenId)>& on_token) {
  GenerateOptions options;
  options.tokens = tokens;
  options.on_token = on_token;
  return generate(context, model, prompt, options);
}

Perplexity evaluate(Context& context, const Model& model, std::span<const TokenId> ids,
                    std::int64_t window, const EvaluateOptions& options) {
  const Config& config = model.config;
  if (config.kind != ModelKind::decoder) {
    throw Error(ErrorCode::unsupported,
                "perplexity is of models that continue a text; " + std::string(config.model_type) +
                    (config.kind == ModelKind::encoder ? " is an encoder"
                                                       : " answers one text with another"));
  }
  if (window < 2 || window > config.position_limit()) {
    throw Error(ErrorCode::out_of_range,
                "a window of " + std::to_string(window) + " ids is not between 2 and " +
                    std::to_string(config.position_limit()) + " (n_positions)");
  }
  Perplexity result;
  double total = 0;
  const auto step = static_cast<std::size_t>(window);
  Cache cache(options.kv);
  cache.cancel = options.cancel;
  const auto interrupted = [&] {
    return Error(ErrorCode::cancelled,
                 "interrupted after " + std::to_string(result.tokens) + " predictions");
  };
  for (std::size_t begin = 0; begin + 1 < ids.size(); begin += step) {
    const std::span<const TokenId> part = ids.subspan(begin, std::min(step, ids.size() - begin));
    if (part.size() < 2) break;
    cache.clear();
    std::vector<float> hidden;
    try {
      hidden = forward(context, model, part, cache);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::cancelled && !model.split) throw interrupted();
      throw;
    }
    const auto predicted = static_cast<std::int64_t>(part.size()) - 1;
    const MatrixView<const float> foretelling(hidden.data(), predicted, config.n_embd);
    for_logits(context, model, foretelling, [&](std::int64_t t, MatrixView<float> logits) {
      if (options.cancel != nullptr && *options.cancel) throw interrupted();
      for (std::int64_t r = 0; r < logits.rows(); ++r) {
        total += negative_log_likelihood(logits.row(r), part[static_cast<std::size_t>(t + r + 1)]);
      }
    });
    result.tokens += predicted;
    if (options.progress) {
      options.progress(static_cast<std::int64_t>(begin + part.size()),
                       static_cast<std::int64_t>(ids.size()));
    }
    if (options.cancel != nullptr && *options.cancel) {
      throw interrupted();
    }
  }
  if (result.tokens == 0) {
    throw Error(ErrorCode::invalid_argument,
                std::to_string(ids.size()) + " ids: nothing to predict");
  }
  result.nll = total / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.nll);
  return result;
}

}  // namespace kvant::models
