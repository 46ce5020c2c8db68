#pragma once

// Products with weights of 4 bits on a device, for decode4 and gemm4: random codes and scales in
// the layout of the kernels, and their y against the definition.

#include <kvant/kernel_table.hpp>

#include "cuda/harness.hpp"

namespace kvant::bench {

struct FourBits {
  WeightFormat format;
  std::int64_t group;
  bool zero_points;
  const char* name;
};
inline constexpr FourBits kFourBits[] = {
    {WeightFormat::int4_group, 32, false, "int4 g32"},
    {WeightFormat::int4_group, 64, false, "int4 g64"},
    {WeightFormat::int4_group, 128, true, "int4 g128 zp"},
    {WeightFormat::nf4, 64, false, "nf4 g64"},
    {WeightFormat::fp4, 64, false, "fp4 g64"},
};

/// Weights [n, k] in as many copies as the second-level cache cannot hold, and activations for up
/// to `rows` rows.
class FourBitProduct {
 public:
  FourBitProduct(Session& session, const FourBits& what, std::int64_t rows, std::int64_t n,
                 std::int64_t k);
  /// The product of m rows, of copy i; y in bfloat16.
  [[nodiscard]] GemmArgs args(std::int64_t m, int i) const;
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }  ///< of one copy
  [[nodiscard]] int copies() const noexcept { return copies_; }
  /// Some elements of y after a product of m rows of copy 0, within what bfloat16 rounds.
  [[nodiscard]] bool is_right(std::int64_t m) const;

 private:
  Session& session_;
  FourBits what_;
  std::int64_t n_, k_;
  NibblePanels panels_;
  std::size_t bytes_;
  int copies_;
  DeviceBuffer w_, x_, y_, scales_;
};

}  // namespace kvant::bench
