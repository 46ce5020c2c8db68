// Frequencies of rotary positions that GGUF files hold as a tensor, and Llama 3's numbers that they
// are made of.

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kvant/error.hpp"
#include "models/decoder/positions.hpp"
#include "models/gguf/gguf_model.hpp"

namespace kvant::models {

void apply_gguf_frequencies(const io::Gguf& file, Config& config) {
  const io::GgufTensor* tensor = file.find_gguf("rope_freqs.weight");
  if (tensor == nullptr) return;
  const auto pairs = static_cast<std::size_t>(config.rotary.dims / 2);
  if (tensor->shape != std::vector<std::uint64_t>{pairs}) {
    throw Error(ErrorCode::shape_mismatch,
                file.name() + ": rope_freqs.weight is not a vector of " + std::to_string(pairs));
  }
  config.rotary.divisors.resize(pairs);
  file.dequantize("rope_freqs.weight", 0, 1, config.rotary.divisors.data());
  for (const float divisor : config.rotary.divisors) {
    if (divisor > 0.0f && std::isfinite(divisor)) continue;
    throw Error(ErrorCode::invalid_file, file.name() + ": rope_freqs.weight holds " +
                                             std::to_string(divisor) +
                                             ", by which no frequency can be divided");
  }
}

std::vector<float> llama3_divisors(const Rotary& rotary) {
  Rotary plain = rotary;
  plain.scaling = RotaryScaling::none;
  std::vector<float> result = rotary_frequencies(plain, 0);
  const std::vector<float> stretched = rotary_frequencies(rotary, 0);
  for (std::size_t i = 0; i < result.size(); ++i) result[i] /= stretched[i];
  return result;
}

bool recognize_llama3(Config& config) {
  Rotary rotary = config.rotary;
  if (rotary.scaling != RotaryScaling::none || rotary.divisors.empty()) return false;
  const std::vector<float> wanted = std::exchange(rotary.divisors, {});
  rotary.scaling = RotaryScaling::llama3;
  rotary.factor = *std::max_element(wanted.begin(), wanted.end());
  rotary.low_frequency_factor = 1.0f;
  rotary.high_frequency_factor = 4.0f;
  for (std::int64_t length = 16; length <= 1 << 20; length *= 2) {
    rotary.original_length = length;
    const std::vector<float> got = llama3_divisors(rotary);
    const bool same = std::equal(got.begin(), got.end(), wanted.begin(), [](float a, float b) {
      return std::fabs(a - b) <= 1e-5f * std::fabs(b);
    });
    if (!same) continue;
    config.rotary = rotary;
    return true;
  }
  return false;
}

}  // namespace kvant::models
