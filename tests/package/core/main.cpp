// What a program of the headers alone does: quantize a convolution by channel, int4 by groups,
// 8-bit floats, and one LLM.int8() product.

#include <cstdio>
#include <vector>

#include <kvant/core.hpp>

int main() {
  std::vector<float> w(16 * 8 * 3 * 3);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 19) - 9.0f;
  const kvant::TensorView<const float> conv(w, {16, 8, 3, 3});
  const auto axis = kvant::per_channel(1);
  const auto params =
      kvant::q::choose_params(conv.matrix(axis), kvant::int8_symmetric, conv.block(axis));
  const auto back = kvant::q::dequantize<float>(kvant::q::quantize(conv.matrix(axis), params));
  const double error = kvant::compare(conv.matrix(axis), back).max;

  const auto x = kvant::checked_view(std::span<const float>(w), 16, 72);
  double worst = 0;
  for (const auto& scheme : {kvant::int4_symmetric, kvant::float8_e5m2_symmetric}) {
    const auto fake = kvant::q::fake_quantize<kvant::bfloat16>(
        x, kvant::q::choose_params(x, scheme, kvant::per_group(24)));
    worst = std::max(worst, kvant::compare(x, fake).max);
  }
  kvant::Matrix<float> y(16, 16);
  kvant::q::llm_int8_matmul(x, x, y);
  double exact = 0;
  for (int k = 0; k < 72; ++k) exact += static_cast<double>(x(0, k)) * static_cast<double>(x(1, k));
  const double relative = std::abs(static_cast<double>(y(0, 1)) - exact) / std::abs(exact);

  std::printf("%s: int8 %.3f, int4 and e5m2 %.3f, product %.4f off\n", KVANT_VERSION_STRING, error,
              worst, relative);
  return error < 0.04 && worst < 1.0 && relative < 0.01 ? 0 : 1;
}
