#pragma once

// What packed weights are made of. Built once by PackedWeightsBuilder or mapped from a file, then
// immutable.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

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
  bool zero_points = false;  ///< one for each scale
  /// k that share a scale in the kernels' panels, where these are of groups; 0: blocks cut rows
  /// where no kernel goes along, and the codes (of 4 bits) are plain rows that are widened.
  std::int64_t group = 0;
  /// int8_group: scales that fp16 does not hold, in float32.
  bool wide_scales = false;

  detail::Section<std::byte> codes;
  detail::Section<float> scales;          ///< as PackedWeights::scales
  detail::Section<float> absmax;          ///< [n padded], or empty
  detail::Section<std::int32_t> offsets;  ///< [n padded], or empty
  std::shared_ptr<const void> mapping;    ///< the file's bytes, when it is one
  const Memory* memory = nullptr;         ///< of a device, where the sections are; null: the host's
  std::shared_ptr<std::byte> device;      ///< their bytes there

  static constexpr int kSections = 4;
  /// Calls each(section) for all sections, in the order of a file.
  template <class Self, class Each>
  static void for_each_section(Self& state, Each&& each) {
    each(state.codes);
    each(state.scales);
    each(state.absmax);
    each(state.offsets);
  }
  /// The same weights in a device's memory, and back. @throws Error out_of_memory, device_failed
  [[nodiscard]] static std::shared_ptr<const State> on(const Memory& memory,
                                                       std::shared_ptr<const State> host);
  [[nodiscard]] static std::shared_ptr<const State> on_host(std::shared_ptr<const State> state);
  /// Weights that were made on the host, where the context's kernels are.
  [[nodiscard]] static std::shared_ptr<const State> placed(const Context& context,
                                                           std::shared_ptr<const State> host);

  [[nodiscard]] const WeightLayout& layout() const noexcept { return kernels.layout; }
  /// Codes of up to 4 bits, each in 4.
  [[nodiscard]] bool is_nibbles() const noexcept {
    return describe(format).panels() == PanelKind::nibbles;
  }
  /// Codes of 4 to 8 bits in GroupPanels.
  [[nodiscard]] bool is_groups() const noexcept {
    return describe(format).panels() == PanelKind::groups;
  }
  /// Bytes of a code or element in a plain row.
  [[nodiscard]] std::int64_t element_bytes() const noexcept {
    const int bits = describe(format).bits;
    return bits <= 8 ? 1 : bits / 8;
  }
  /// Of a plain row: of elements or codes, a byte each, or of blocks of GGUF.
  [[nodiscard]] std::int64_t row_bytes() const noexcept {
    const WeightFormatInfo& info = describe(format);
    return info.is_gguf() ? k / info.gguf_elements * info.gguf_bytes : k * element_bytes();
  }
  /// Scales of one output (blocks of GGUF have theirs in them).
  [[nodiscard]] std::int64_t row_scales() const noexcept {
    const WeightFormatInfo& info = describe(format);
    return info.is_gguf() ? 0 : info.row_scales(k, block);
  }
  /// The scales lie among the codes.
  [[nodiscard]] bool has_inline_scales() const noexcept {
    return is_groups() || (is_nibbles() && group != 0);
  }
  /// Codes of 4 bits in plain rows, which are widened, whatever the kernels.
  [[nodiscard]] bool is_plain_nibbles() const noexcept { return is_nibbles() && group == 0; }
  /// As they lie these kernels can multiply them, or nobody needs to.
  [[nodiscard]] bool lie_for(const GemmKernels& others) const noexcept {
    return is_plain_nibbles() || kernels.same_weights(others);
  }
  [[nodiscard]] bool has_scales() const noexcept {
    return has_inline_scales() || scales.size() != 0;
  }
  /// How codes of 4 bits lie.
  [[nodiscard]] NibblePanels nibbles() const noexcept;
  /// How those of other groups lie.
  [[nodiscard]] GroupPanels groups() const noexcept;
  /// Of the section `codes`.
  [[nodiscard]] std::int64_t codes_bytes() const noexcept {
    if (is_nibbles()) return layout().panels(n) * nibbles().panel_bytes();
    if (is_groups()) return layout().panels(n) * groups().panel_bytes();
    return layout().padded_n(n) * k_padded * element_bytes();
  }
  /// `group` as packing chooses it.
  [[nodiscard]] static std::int64_t group_for(WeightFormat format, std::int64_t k,
                                              std::int64_t k_padded, std::int64_t block) noexcept;
  /// The plain row of one output: its codes (a byte each), elements, or blocks of GGUF.
  void unpack_row(std::int64_t row, std::byte* to) const noexcept;
  /// Its scales and zero points [row_scales()]; those without a code keep what they are.
  void unpack_scales(std::int64_t row, float* to_scales, std::uint8_t* to_zeros) const noexcept;
  /// Its real values, and the scratch that this takes, in bytes.
  void decode_row(std::int64_t row, std::byte* scratch, float* to) const noexcept;
  [[nodiscard]] std::int64_t decode_scratch() const noexcept;

 private:
  void unpack_group_codes(std::int64_t row, std::byte* to) const noexcept;
  void unpack_group_scales(std::int64_t row, float* to) const noexcept;
  void unpack_blocks(std::int64_t row, std::byte* to) const noexcept;
};

namespace detail {

/// Fills a State: frame first, then codes panel by panel (different panels at the same time by
/// different threads, if it must be), then finish.
class PackedWeightsBuilder {
 public:
  /// @throws Error out_of_range, invalid_argument; std::bad_alloc
  PackedWeightsBuilder(const char* who, const KernelTable& kernels, WeightFormat format,
                       std::int64_t n, std::int64_t k, std::int64_t block, bool zero_points = false,
                       bool wide_scales = false);

  /// Plain rows (State::unpack_row) of the outputs [first, first + rows); first
  /// is a multiple of nr and the rows fill whole panels, but for the last. stride: bytes between
  /// rows.
  void pack_rows(std::int64_t first, const std::byte* elements, std::int64_t rows,
                 std::ptrdiff_t stride) noexcept;
  /// The scales [row_scales()] of an output whose codes are packed; zeros where it has them.
  void set_scales(std::int64_t row, const float* scales, const std::uint8_t* zeros) noexcept;
  /// The codes alone are wanted.
  void drop_scales() noexcept {
    state_->scales = {};
    state_->absmax = {};
  }
  /// The absmax of all blocks as double quantization leaves them (PackOptions::nested_absmax).
  /// @throws Error not_finite; std::bad_alloc
  void nest_absmax();
  [[nodiscard]] float* absmax() noexcept { return absmax_; }
  [[nodiscard]] const PackedWeights::State& state() const noexcept { return *state_; }
  [[nodiscard]] std::shared_ptr<const PackedWeights::State> finish() noexcept {
    return std::move(state_);
  }

 private:
  void pack_panel(std::int64_t panel, const std::byte* elements, std::int64_t rows,
                  std::ptrdiff_t stride) noexcept;
  void pack_nibbles(std::int64_t panel, const std::byte* codes, std::int64_t rows,
                    std::ptrdiff_t stride) noexcept;
  void pack_groups(std::int64_t panel, const std::byte* codes, std::int64_t rows,
                   std::ptrdiff_t stride) noexcept;
  void set_group_scales(std::int64_t row, const float* scales) noexcept;

  std::shared_ptr<PackedWeights::State> state_;
  std::byte* codes_ = nullptr;
  float* scales_ = nullptr;
  float* absmax_ = nullptr;
  std::int32_t* offsets_ = nullptr;
};

}  // namespace detail
}  // namespace kvant
