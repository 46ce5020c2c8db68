#pragma once

// What a call of a layer costs beyond its kernels: the two kernels of an LLM.int8() product of one
// row, called directly. No checks, no workspace, no search for outlier columns, no threads.

#include <cstdint>
#include <vector>

#include "harness/entries.hpp"
#include "kvant/int8_matmul.hpp"

namespace kvant::bench {

class BareKernels {
 public:
  /// y [1, n] = x [1, k] times random codes, with a bias.
  BareKernels(Context& context, const bfloat16* x, std::int64_t n, std::int64_t k)
      : kernels_(context.kernels()),
        int8_(kernels_.gemm_for(WeightFormat::int8_row)),
        x_(x),
        n_(n),
        k_(k),
        y_(static_cast<std::size_t>(n)) {
    const std::vector<std::int8_t> codes = normal_codes(n, k, 8);
    weights_ = pack_codes(context, MatrixView<const std::int8_t>(codes.data(), n, k));
    const auto padded = static_cast<std::size_t>(int8_.layout.padded_n(n));
    col_scale_ = AlignedArray<float>(padded, 0.01f);
    bias_ = AlignedArray<float>(padded, 1.0f);
    row_ = AlignedArray<std::byte>(static_cast<std::size_t>(weights_.k_padded() + kActivationSlack),
                                   std::byte{0});
    flags_ = AlignedArray<std::uint8_t>(static_cast<std::size_t>(k), std::uint8_t{0});
  }

  void run() {
    float absmax = 0;
    kernels_.quantize_rows({.x = {x_, DType::bfloat16, 1, k_, k_},
                            .bitsandbytes = false,
                            .threshold = 6.0f,
                            .keep_mask = nullptr,
                            .given_absmax = nullptr,
                            .codes = row_.data(),
                            .format = int8_.activations,
                            .code_stride = weights_.k_padded(),
                            .k_padded = weights_.k_padded(),
                            .absmax = &absmax,
                            .outlier_columns = flags_.data()});
    const float row_scale = absmax / 127.0f;
    int8_.gemm({.a = row_.data(),
                .b = weights_.data(),
                .b_offset = weights_.offsets(),
                .range = {.m = 1,
                          .n = n_,
                          .k_padded = weights_.k_padded(),
                          .block_end = 1,
                          .panel_end = weights_.panels()},
                .columns = {},
                .epilogue = {.y = y_.data(),
                             .y_dtype = DType::bfloat16,
                             .y_stride = n_,
                             .row_scale = &row_scale,
                             .col_scale = col_scale_.data(),
                             .scale = 1.0f,
                             .bias = bias_.data(),
                             .outliers = {},
                             .bias_first = false}});
  }

 private:
  const KernelTable& kernels_;
  const GemmKernels& int8_;
  const bfloat16* x_;
  std::int64_t n_;
  std::int64_t k_;
  std::vector<bfloat16> y_;
  PackedMatrix weights_;
  AlignedArray<float> col_scale_;
  AlignedArray<float> bias_;
  AlignedArray<std::byte> row_;
  AlignedArray<std::uint8_t> flags_;
};

}  // namespace kvant::bench
