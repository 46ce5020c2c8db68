#pragma once

/// @file
/// PackedWeights: the weights of a layer in one of kvant's formats, in a kernel set's own layout.
///
///     auto w = kvant::PackedWeights::quantize(weights, kvant::WeightFormat::int8_row);
///     w.save("layer.packed");                                     // once
///     auto same = kvant::PackedWeights::map(context, "layer.packed");   // at every start: no
///     packing

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/activations.hpp"
#include "kvant/config.hpp"
#include "kvant/core/activation_checks.hpp"
#include "kvant/gguf_blocks.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

class Context;
class QuantizedMatrix;

/// How weights are quantized when they are packed.
struct PackOptions {
  /// Weights that share a scale, where the format lets choose; 0: its own (weight_format.hpp).
  std::int64_t block = 0;
  /// A zero point for each scale, in formats that may have them (int4, int3, int2); by default they
  /// do. (int3 and int2 hold one in any case, the middle code.)
  std::optional<bool> zero_points = {};
  /// Whose codes, where the two differ (int8_row).
  Arithmetic arithmetic = Arithmetic::kvant;
  /// fp8: one scale for the whole weight, not one for each output.
  bool one_scale = false;
  /// nf4, fp4: each absmax as bitsandbytes' double quantization leaves it (compress_statistics, its
  /// default; bitsandbytes::nest_absmax): the weights are those of its checkpoints. They are held,
  /// and counted by weight_bytes, as the floats that they come back as.
  bool nested_absmax = false;
  /// fp8, fp8-block: scales are rounded to this type (float32, float16, bfloat16) before they are
  /// used, as a file will hold them.
  DType scale_type = DType::float32;
};

/// Weights [n, k] that are quantized already, in any format but the floating ones.
struct CodedWeights {
  WeightFormat format = WeightFormat::int4_group;
  /// A byte for each code: the code itself (formats of up to 4 bits), or the bits of the int8 or
  /// e4m3 element.
  MatrixView<const std::uint8_t> codes;
  /// [n][blocks of a row], each exactly as the format stores it (int2 to int8-group: fp16; mxfp4: a
  /// power of two); nf4, fp4: the absmax of each block of the flattened weight. An output of
  /// fp8-block has those of its squares.
  std::span<const float> scales;
  /// int2, int3, int4: as many as scales, 0 to 4, 8 or 16; empty: 2, 4 or 8 for all.
  std::span<const std::uint8_t> zero_points = {};
  /// Weights that share a scale, a multiple of 32, beyond k: the whole row; 0: the format's own.
  std::int64_t block = 0;
};

/// What map does with a file that was written for another kernel set.
enum class Repack : std::uint8_t {
  when_needed,  ///< unpack it and pack it for this context: costs what packing costs
  never,        ///< Error unsupported
};

/// Immutable weights [n, k], n outputs of k inputs. Copies share the memory; any number of threads
/// may read. Kernel sets with the same layout share packed weights, any other refuses them. An
/// empty one (default or moved from) is [0, 0].
class KVANT_API PackedWeights {
 public:
  struct State;

  PackedWeights() noexcept = default;

  /// Quantizes weights [n, k] (fp32, fp16 or bf16) and packs them for the context's kernels.
  /// @throws Error unsupported (dtype, a format that is not packed), invalid_argument, out_of_range
  ///         (k > 131071 in an integer format), not_finite (nested_absmax of such weights),
  ///         out_of_memory
  [[nodiscard]] static PackedWeights quantize(ConstAnyMatrix weights, WeightFormat format,
                                              const PackOptions& options = {});
  [[nodiscard]] static PackedWeights quantize(Context& context, ConstAnyMatrix weights,
                                              WeightFormat format, const PackOptions& options = {});

  /// int8_row from codes [n, k] (any int8, -128 included) and the absmax of each row (the weight is
  /// code * absmax / 127); without absmax the codes alone, for int8_matmul.
  /// @throws Error shape_mismatch, invalid_argument (an absmax that is negative, NaN or infinite),
  ///         out_of_range, out_of_memory
  [[nodiscard]] static PackedWeights from_codes(Context& context,
                                                MatrixView<const std::int8_t> codes,
                                                std::span<const float> absmax = {});

  /// Weights from their codes, scales and zero points, without a change to any value.
  /// @throws Error invalid_argument (a code or zero point out of range, an element or scale that is
  ///         NaN or infinite, a scale that the format does not hold), shape_mismatch (the number of
  ///         scales or zero points), unsupported (a floating format), out_of_range, out_of_memory
  [[nodiscard]] static PackedWeights from_codes(Context& context, const CodedWeights& weights);

  /// Weights [n, k] from the blocks of a GGUF tensor, row after row, without a change to any value.
  /// Q4_0 becomes int4, Q8_0 int8_group, both in blocks of 32; of the others the codes and scales
  /// stay as they are, put into the order of the kernels' panels (the scales of K types in a byte
  /// instead of 6 bits).
  /// @throws Error shape_mismatch (k that is no multiple of a block, the number of bytes),
  ///         invalid_argument (a scale that is NaN or infinite), out_of_range, out_of_memory,
  ///         unsupported (a device that multiplies no such weights)
  [[nodiscard]] static PackedWeights from_blocks(Context& context, GgufBlocks type, std::int64_t n,
                                                 std::int64_t k, std::span<const std::byte> blocks);

  /// From a linear quantizer's result, without a change to any value. int8_row takes one scale per
  /// tensor, per row or per block of whole rows; int8_group takes blocks of a multiple of 32
  /// columns. Zero points are folded into the codes where they fit int8.
  /// @throws Error unsupported: a granularity, zero points or a shift that no format holds; the
  ///         message says which
  [[nodiscard]] static PackedWeights from(Context& context, const QuantizedMatrix& weights);

  /// Writes everything to a file, as it is in memory. The file appears whole or not at all.
  /// @throws Error io, invalid_argument (empty)
  void save(const std::string& file) const;
  /// Maps a file that save wrote: nothing is read but its header and lists, pages come as they are
  /// used. The file must stay as it is meanwhile.
  /// @throws Error io, invalid_file (not such a file, damaged, of another version or byte order),
  ///         unsupported (packed for another layout, with Repack::never), out_of_memory
  [[nodiscard]] static PackedWeights map(Context& context, const std::string& file,
                                         Repack repack = Repack::when_needed);

  [[nodiscard]] WeightFormat format() const noexcept;
  [[nodiscard]] std::int64_t n() const noexcept;
  [[nodiscard]] std::int64_t k() const noexcept;
  [[nodiscard]] std::int64_t k_padded() const noexcept;
  /// Weights that share a scale; 0: the whole row, or none do.
  [[nodiscard]] std::int64_t block() const noexcept;
  /// Each scale has a zero point.
  [[nodiscard]] bool has_zero_points() const noexcept;
  [[nodiscard]] std::int64_t panels() const noexcept;
  [[nodiscard]] const WeightLayout& layout() const noexcept;
  /// The name of the kernel set that packed it.
  [[nodiscard]] std::string_view packed_for() const noexcept;
  /// Can be multiplied by these kernels as it is: layout and memory are theirs.
  [[nodiscard]] bool fits(const KernelTable& kernels) const noexcept;
  /// The memory is a file's.
  [[nodiscard]] bool is_mapped() const noexcept;

  // Of weights on a device these point into its memory.
  /// The packed codes or elements, WeightLayout::offset in units of one; or NibblePanels,
  /// GroupPanels.
  [[nodiscard]] const std::byte* data() const noexcept;
  /// int8_row: what an output's integer sums are multiplied by, [n padded]. fp8, fp8_block: the
  /// scales of each output one after the other, [n][blocks]. Null where there are none and where
  /// they lie among the codes (unpack_scales).
  [[nodiscard]] const float* scales() const noexcept;
  /// absmax of each output, [n]; empty in formats without.
  [[nodiscard]] std::span<const float> absmax() const noexcept;
  /// The same as a copy, which works for weights on a device too.
  [[nodiscard]] std::vector<float> absmax_values() const;
  /// 128 * the sum of an output's codes, [n padded]; null where the kernels need none.
  [[nodiscard]] const std::int32_t* offsets() const noexcept;

  /// Row-major int8 codes of the outputs [first, first + codes.rows()).
  /// @throws Error unsupported (codes of another type, blocks of GGUF), shape_mismatch,
  ///         out_of_range
  void unpack_rows(std::int64_t first, MatrixView<std::int8_t> codes) const;
  /// The same for codes of up to 4 bits, a byte each, and the bits of e4m3 elements.
  void unpack_rows(std::int64_t first, MatrixView<std::uint8_t> codes) const;
  /// Scales and zero points of one output, block by block (nf4, fp4: of the blocks that it lies in,
  /// the first of which may have begun before it); zero_points is empty where there are none, both
  /// of blocks of GGUF.
  /// @throws Error out_of_range
  void unpack_scales(std::int64_t row, std::vector<float>& scales,
                     std::vector<std::uint8_t>& zero_points) const;
  /// The real values of the outputs [first, first + w.rows) into w: fp32, fp16 or bf16.
  /// @throws Error shape_mismatch, out_of_range, unsupported (dtype)
  void dequantize(AnyMatrix w, std::int64_t first = 0) const;
  /// The same of any outputs, in any order and as often as wanted: the lookup of embeddings in a
  /// table that is never expanded.
  /// @param rows  of the table @param w [rows, k]
  /// @throws Error as dequantize(); out_of_range names the row
  void dequantize_rows(Context& context, std::span<const std::int64_t> rows, AnyMatrix w) const;

  /// Bytes held, with padding.
  [[nodiscard]] std::size_t bytes() const noexcept;
  /// Bytes of codes and scales without padding, as a checkpoint stores them.
  [[nodiscard]] std::size_t stored_bytes() const noexcept;

  /// For the library itself; must not be empty.
  [[nodiscard]] const State& state() const noexcept { return *state_; }

 private:
  explicit PackedWeights(std::shared_ptr<const State> state) noexcept : state_(std::move(state)) {}
  void save_as(const std::string& file) const;
  static PackedWeights repacked(Context& context, const PackedWeights& weights);
  std::shared_ptr<const State> state_;
};

}  // namespace kvant
