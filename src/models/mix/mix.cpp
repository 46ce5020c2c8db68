#include "kvant/models/mix.hpp"

#include <cmath>
#include <string>

#include "kvant/error.hpp"
#include "kvant/methods/multiple_choice.hpp"

namespace kvant::models {
namespace {

using Items = std::vector<std::vector<methods::Alternative>>;

enum class Limit : std::uint8_t { bytes, loss };

Items items_of(const Sensitivities& found, Limit limit) {
  Items items;
  for (const LayerSensitivity& layer : found.layers) {
    std::vector<methods::Alternative>& item = items.emplace_back();
    for (const FormatSensitivity& each : layer.formats) {
      const auto bytes = static_cast<double>(each.bytes);
      item.push_back(limit == Limit::bytes ? methods::Alternative{each.loss, bytes}
                                           : methods::Alternative{bytes, each.loss});
    }
  }
  return items;
}

Mix sum_of(const Sensitivities& found, std::vector<std::size_t> chosen, double gap) {
  Mix mix{std::move(chosen), 0, 0, gap};
  for (std::size_t i = 0; i < found.layers.size(); ++i) {
    const FormatSensitivity& each = found.layers[i].formats[mix.chosen[i]];
    mix.bytes += each.bytes;
    mix.loss += each.loss;
  }
  return mix;
}

Mix solve(const Sensitivities& found, Limit kind, double limit, const std::atomic<bool>* cancel) {
  methods::MultipleChoice choice =
      methods::choose_one_of_each(items_of(found, kind), limit, {.cancel = cancel});
  const double gap = choice.gap();
  return sum_of(found, std::move(choice.chosen), gap);
}

}  // namespace

std::uint64_t smallest_bytes(const Sensitivities& found) {
  return static_cast<std::uint64_t>(methods::lightest_sum(items_of(found, Limit::bytes)));
}

std::uint64_t useful_bytes(const Sensitivities& found) {
  return static_cast<std::uint64_t>(methods::useful_sum(items_of(found, Limit::bytes)));
}

Mix best_mix(const Sensitivities& found, std::uint64_t bytes, const std::atomic<bool>* cancel) {
  const std::uint64_t smallest = smallest_bytes(found);
  if (bytes < smallest) {
    throw Error(ErrorCode::invalid_argument,
                "the smallest mix of these formats takes " + std::to_string(smallest) +
                    " bytes in its layers, the budget leaves " + std::to_string(bytes));
  }
  return solve(found, Limit::bytes, static_cast<double>(bytes), cancel);
}

Mix smallest_mix(const Sensitivities& found, double loss, const std::atomic<bool>* cancel) {
  const double least = methods::lightest_sum(items_of(found, Limit::loss));
  if (!(loss >= least)) {
    throw Error(ErrorCode::invalid_argument,
                "the best mix of these formats is expected to lose " + std::to_string(least) +
                    " nats a token, the budget leaves " + std::to_string(loss));
  }
  return solve(found, Limit::loss, loss, cancel);
}

Mix uniform_mix(const Sensitivities& found, std::size_t format) {
  for (const LayerSensitivity& layer : found.layers) {
    if (format >= layer.formats.size()) {
      throw Error(ErrorCode::invalid_argument,
                  "uniform_mix: there is no format number " + std::to_string(format));
    }
  }
  return sum_of(found, std::vector<std::size_t>(found.layers.size(), format), 0);
}

std::vector<LayerFormat> formats_of(const Sensitivities& found, const Mix& mix) {
  if (mix.chosen.size() != found.layers.size()) {
    throw Error(ErrorCode::invalid_argument, "the mix is of " + std::to_string(mix.chosen.size()) +
                                                 " layers, the model has " +
                                                 std::to_string(found.layers.size()));
  }
  std::vector<LayerFormat> formats;
  for (std::size_t i = 0; i < mix.chosen.size(); ++i) {
    formats.push_back(found.layers[i].formats.at(mix.chosen[i]).format);
  }
  return formats;
}

FormatPlan plan_of(const Sensitivities& found, const Mix& mix) {
  const std::vector<LayerFormat> formats = formats_of(found, mix);
  FormatPlan plan;
  plan.arithmetic = found.exact ? Arithmetic::exact : Arithmetic::kvant;
  for (std::size_t i = 0; i < formats.size(); ++i) plan.layers[found.layers[i].name] = formats[i];
  return plan;
}

}  // namespace kvant::models
