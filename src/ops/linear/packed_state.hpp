#pragma once

// What packed weights are made of. Built once by PackedWeightsBuilder or mapped from a file, then
// immutable.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kvant/aligned_array.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant {
namespace detail {

/// An array that is owned, or lies in a mapped file.
template <class T>
class Section {
 public:
  using value_type = T;

  /// Room for `count` elements, uninitialised. @throws std::bad_alloc
  T* allocate(std::int64_t count) {
    owned_ = AlignedArray<T>(static_cast<std::size_t>(count));
    data_ = owned_.data();
    size_ = owned_.size();
    return owned_.data();
  }
  /// The same, zero. @throws std::bad_alloc
  T* allocate_zero(std::int64_t count) {
    T* const data = allocate(count);
    for (std::int64_t i = 0; i < count; ++i) data[i] = T{};
    return data;
  }
  void map(const T* data, std::size_t size) noexcept {
    data_ = data;
    size_ = size;
  }

  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return size_ * sizeof(T); }
  const T& operator[](std::int64_t i) const noexcept { return data_[i]; }

 private:
  AlignedArray<T> owned_;
  const T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace detail

struct PackedWeights::State {
  WeightFormat format = WeightFormat::int8_row;
  GemmKernels kernels;  ///< those it was packed for; without a gemm: plain rows
  std::string packed_for;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t k_padded = 0;
  std::int64_t block = 0;

  detail::Section<std::byte> codes;
  detail::Section<float> scales;          ///< as PackedWeights::scales
  detail::Section<float> absmax;          ///< [n padded], or empty
  detail::Section<std::int32_t> offsets;  ///< [n padded], or empty
  detail::Section<std::int64_t> residual_begin;
  detail::Section<Residual> residuals;
  detail::Section<std::uint8_t> unlimited;
  std::shared_ptr<const void> mapping;  ///< the file's bytes, when it is one
  const Memory* memory = nullptr;       ///< of a device, where the sections are; null: the host's
  std::shared_ptr<std::byte> device;    ///< their bytes there

  static constexpr int kSections = 7;
  /// Calls each(section) for all sections, in the order of a file.
  template <class Self, class Each>
  static void for_each_section(Self& state, Each&& each) {
    each(state.codes);
    each(state.scales);
    each(state.absmax);
    each(state.offsets);
    each(state.residual_begin);
    each(state.residuals);
    each(state.unlimited);
  }
  /// The same weights in a device's memory, and back. @throws Error out_of_memory, device_failed
  [[nodiscard]] static std::shared_ptr<const State> on(const Memory& memory,
                                                       std::shared_ptr<const State> host);
  [[nodiscard]] static std::shared_ptr<const State> on_host(std::shared_ptr<const State> state);
  /// Weights that were made on the host, where the context's kernels are.
  [[nodiscard]] static std::shared_ptr<const State> placed(const Context& context,
                                                           std::shared_ptr<const State> host);

  [[nodiscard]] const WeightLayout& layout() const noexcept { return kernels.layout; }
  [[nodiscard]] std::int64_t element_bytes() const noexcept { return describe(format).bits / 8; }
  /// Scales of one output.
  [[nodiscard]] std::int64_t row_scales() const noexcept {
    return describe(format).scales(1, k, block);
  }
  [[nodiscard]] ResidualLists lists() const noexcept {
    return {residual_begin.data(), residuals.data(), unlimited.data()};
  }
  /// The elements of one output, in order.
  void unpack_row(std::int64_t row, std::byte* to) const noexcept;
};

namespace detail {

/// Fills a State: frame first, then codes panel by panel (different panels at the same time by
/// different threads, if it must be), then finish.
class PackedWeightsBuilder {
 public:
  /// @throws Error out_of_range, invalid_argument; std::bad_alloc
  PackedWeightsBuilder(const char* who, const KernelTable& kernels, WeightFormat format,
                       std::int64_t n, std::int64_t k, std::int64_t block);

  /// Row-major elements of the outputs [first, first + rows); first is a multiple of nr and the
  /// rows fill whole panels, but for the last. stride: bytes between rows.
  void pack_rows(std::int64_t first, const std::byte* elements, std::int64_t rows,
                 std::ptrdiff_t stride) noexcept;
  /// The codes alone are wanted.
  void drop_scales() noexcept {
    state_->scales = {};
    state_->absmax = {};
  }
  [[nodiscard]] float* scales() noexcept { return scales_; }
  [[nodiscard]] float* absmax() noexcept { return absmax_; }
  [[nodiscard]] const PackedWeights::State& state() const noexcept { return *state_; }
  /// @throws std::bad_alloc
  [[nodiscard]] std::shared_ptr<const PackedWeights::State> finish();

 private:
  void pack_panel(std::int64_t panel, const std::byte* elements, std::int64_t rows,
                  std::ptrdiff_t stride) noexcept;
  void move_excess(std::int64_t panel) noexcept;

  std::shared_ptr<PackedWeights::State> state_;
  std::byte* codes_ = nullptr;
  float* scales_ = nullptr;
  float* absmax_ = nullptr;
  std::int32_t* offsets_ = nullptr;
  // Of kernels with a pair_limit: each panel has room for as many entries as a list may have.
  std::int64_t room_ = 0;  ///< entries of a panel
  AlignedArray<Residual> entries_;
  std::int64_t* begin_ = nullptr;
  std::uint8_t* unlimited_ = nullptr;
};

}  // namespace detail
}  // namespace kvant
