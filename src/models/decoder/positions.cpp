#include "models/decoder/positions.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "kvant/models/block.hpp"

namespace kvant::models {
namespace {

constexpr float kPi = 3.14159265358979f;

// Frequencies are float32 step by step, as transformers computes them: at position 4000 an ulp of a
// frequency is a turn of 2e-4.
std::vector<float> plain_frequencies(float theta, std::int64_t dims) {
  std::vector<float> result(static_cast<std::size_t>(dims / 2));
  for (std::size_t i = 0; i < result.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dims);
    result[i] = 1.0f / std::pow(theta, exponent);
  }
  return result;
}

/// Llama 3: long waves are stretched by the factor, short ones are kept, between them a ramp.
void stretch_llama3(const Rotary& rotary, std::vector<float>& frequencies) {
  const auto length = static_cast<float>(rotary.original_length);
  const float long_wave = length / rotary.low_frequency_factor;
  const float short_wave = length / rotary.high_frequency_factor;
  for (float& frequency : frequencies) {
    const float wave = 2 * kPi / frequency;
    if (wave < short_wave) continue;
    if (wave > long_wave) {
      frequency /= rotary.factor;
      continue;
    }
    const float smooth = (length / wave - rotary.low_frequency_factor) /
                         (rotary.high_frequency_factor - rotary.low_frequency_factor);
    frequency = (1 - smooth) * frequency / rotary.factor + smooth * frequency;
  }
}

/// YaRN (arXiv 2309.00071): between two pairs, which turn beta_fast and beta_slow times within the
/// training's length, a ramp from kept to stretched frequencies.
void stretch_yarn(const Rotary& rotary, std::vector<float>& frequencies) {
  const auto pair_turning = [&](float turns) {
    return static_cast<double>(rotary.dims) *
           std::log(static_cast<double>(rotary.original_length) /
                    (static_cast<double>(turns) * 2 * 3.141592653589793)) /
           (2 * std::log(static_cast<double>(rotary.theta)));
  };
  double low = pair_turning(rotary.beta_fast);
  double high = pair_turning(rotary.beta_slow);
  if (rotary.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary.dims - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
        1.0f);
    const float kept = 1 - ramp;
    frequencies[i] = frequencies[i] / rotary.factor * (1 - kept) + frequencies[i] * kept;
  }
}

}  // namespace

std::vector<float> rotary_frequencies(const Rotary& rotary, std::int64_t length) {
  float theta = rotary.theta;
  if (rotary.scaling == RotaryScaling::dynamic && length > rotary.original_length) {
    const double stretch = static_cast<double>(rotary.factor) * static_cast<double>(length) /
                               static_cast<double>(rotary.original_length) -
                           (static_cast<double>(rotary.factor) - 1);
    const auto dims = static_cast<double>(rotary.dims);
    theta = static_cast<float>(static_cast<double>(theta) * std::pow(stretch, dims / (dims - 2)));
  }
  std::vector<float> result = plain_frequencies(theta, rotary.dims);
  switch (rotary.scaling) {
    case RotaryScaling::none:
    case RotaryScaling::dynamic: break;
    case RotaryScaling::linear:
      for (float& frequency : result) frequency /= rotary.factor;
      break;
    case RotaryScaling::llama3: stretch_llama3(rotary, result); break;
    case RotaryScaling::yarn: stretch_yarn(rotary, result); break;
  }
  for (std::size_t i = 0; i < rotary.divisors.size(); ++i) result[i] /= rotary.divisors[i];
  return result;
}

void rotate(float* x, const float* cosines, const float* sines, std::int64_t half) {
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = x[i];
    const float b = x[i + half];
    x[i] = a * cosines[i] - b * sines[i];
    x[i + half] = b * cosines[i] + a * sines[i];
  }
}

std::int64_t relative_bucket(const Relative& relative, std::int64_t distance, bool both_ways) {
  std::int64_t buckets = relative.buckets;
  std::int64_t first = 0;
  if (both_ways) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<std::int64_t>(-distance, 0);
  }
  const std::int64_t single = buckets / 2;
  if (distance < single) return first + distance;
  // In float32, step by step, as transformers computes it: a bucket begins where it says.
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(single)) /
                      static_cast<float>(std::log(static_cast<double>(relative.max_distance) /
                                                  static_cast<double>(single)));
  const auto wide = static_cast<std::int64_t>(ratio * static_cast<float>(buckets - single));
  return first + std::min(single + wide, buckets - 1);
}

std::vector<float> alibi_slopes(std::int64_t heads) {
  std::int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  const auto slope = [](std::int64_t of, std::int64_t number) {
    const auto base =
        static_cast<float>(std::exp2(-std::exp2(-(std::log2(static_cast<double>(of)) - 3))));
    return std::pow(base, static_cast<float>(number));
  };
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>(heads));
  for (std::int64_t h = 1; h <= power; ++h) result.push_back(slope(power, h));
  for (std::int64_t h = 1; static_cast<std::int64_t>(result.size()) < heads; h += 2) {
    result.push_back(slope(2 * power, h));
  }
  return result;
}

Pass::Pass(const Config& config, Stream stream_, std::int64_t first_, std::int64_t tokens_,
           PassMemory memory)
    : PassMemory(std::move(memory)), stream(stream_), first(first_), tokens(tokens_) {
  if (config.positions == Positions::alibi) {
    slopes = alibi_slopes(std::max(config.n_head, config.all_heads));
    slopes.erase(slopes.begin(), slopes.begin() + config.first_head);
  }
  if (config.positions != Positions::rotary) return;
  const std::vector<float> frequencies = rotary_frequencies(config.rotary, first + tokens);
  cosines.reserve(static_cast<std::size_t>(tokens) * frequencies.size());
  sines.reserve(cosines.capacity());
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto position = static_cast<float>(first + t);
    for (const float frequency : frequencies) {
      const float angle = position * frequency;
      cosines.push_back(std::cos(angle) * config.rotary.attention_factor);
      sines.push_back(std::sin(angle) * config.rotary.attention_factor);
    }
  }
}

}  // namespace kvant::models
