#pragma once

// The first stage of every forward pass: a batch of activations quantized (or converted) into the
// order that the kernels read, outlier features apart.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kvant/activations.hpp"
#include "kvant/aligned_array.hpp"
#include "kvant/core/static_activations.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/workspace.hpp"

namespace kvant {
namespace detail {

/// ActivationOptions, checked, with memory of their own; K is the width they were checked against.
struct ActivationRules {
  ActivationOptions options;  ///< its keep_columns are `keep_columns`; arithmetic: exact for floats
  std::vector<std::int64_t> keep_columns;
  AlignedArray<std::int16_t> keep_mask;  ///< [k], 0 for a kept column; empty when there is none

  std::optional<QuantParams> static_params;  ///< options.static_params is this
  std::optional<BlockParams> static_blocks;  ///< the same as loops read it; empty where k = 0
  /// Of codes that kernels multiply: as int8, and + 128 for ActivationFormat::u8_offset.
  std::array<QuantParams, 2> code_params;
  std::array<std::optional<BlockParams>, 2> code_blocks;

  // The same where the kernels are; null where there is none.
  const std::int64_t* columns_at = nullptr;
  const std::int16_t* mask_at = nullptr;
  std::shared_ptr<std::byte> on_device;  ///< their memory; null on the host

  /// @param memory  of the kernels; null: the host's
  /// @throws Error invalid_argument, out_of_range (who is named in the message), out_of_memory
  static std::shared_ptr<const ActivationRules> of(const char* who,
                                                   const ActivationOptions& options, std::int64_t k,
                                                   const Memory* memory = nullptr);

  [[nodiscard]] std::int64_t kept() const noexcept {
    return static_cast<std::int64_t>(keep_columns.size());
  }
  [[nodiscard]] bool is_bitsandbytes() const noexcept {
    return options.arithmetic == Arithmetic::bitsandbytes;
  }
  /// Infinities always take the float path; other outliers when they are searched.
  [[nodiscard]] float search_threshold() const noexcept;
  /// A column with an outlier leaves the int8 product for all rows, not only for its own.
  [[nodiscard]] bool whole_columns() const noexcept {
    return options.outliers == Outliers::per_call && options.threshold > 0.0f;
  }
  /// Below it an element of a found column is not an outlier; 0: all of a found column are.
  [[nodiscard]] float outlier_threshold() const noexcept {
    return whole_columns() ? 0.0f : search_threshold();
  }
  /// bitsandbytes does not look for outliers at threshold 0: an infinity makes the row NaN.
  [[nodiscard]] bool ignores_outliers() const noexcept {
    return is_bitsandbytes() && options.threshold == 0.0f;
  }
  [[nodiscard]] bool is_int15() const noexcept { return options.arithmetic == Arithmetic::int15; }
  [[nodiscard]] bool is_static() const noexcept { return static_params.has_value(); }
  /// Activations that a product of floats takes are rounded to what their codes stand for.
  [[nodiscard]] bool rounds_floats() const noexcept {
    return is_static() || activation_type(options) != DType::int8;
  }
  /// Give the same activations for every batch.
  [[nodiscard]] bool same_as(const ActivationRules& other) const noexcept;
};

/// A batch after the first stage; where the memory is, the caller knows.
struct Activations {
  std::int64_t m = 0;
  std::int64_t planes = 1;  ///< rows of codes for each row of x, neighbours: 2 in int15 arithmetic
  std::int64_t k = 0;
  std::int64_t k_padded = 0;
  DType x_dtype = DType::float32;
  GemmKernels kernels;  ///< whose order and format these are
  const std::byte* data = nullptr;

  /// Quantized, not only converted.
  [[nodiscard]] bool are_codes() const noexcept { return kernels.gather_columns != nullptr; }
  /// Of the codes.
  [[nodiscard]] RowBlocks blocks() const noexcept { return kernels.blocks(m * planes); }

  // Of integer formats:
  const float* absmax = nullptr;          ///< [m]; null where scales are static
  const float* row_scale = nullptr;       ///< [m * planes]
  const std::int32_t* sums = nullptr;     ///< where the kernels want them (ActivationSums)
  const float* kept_x = nullptr;          ///< [kept, m]
  std::int64_t outliers = 0;              ///< on a device: the most there may be
  const std::int64_t* columns = nullptr;  ///< [outliers], ascending
  const float* outlier_x = nullptr;       ///< [outliers, m]; null on a device
  /// Of a device: how many outliers there are, and x, which the product reads.
  const std::int64_t* outliers_at = nullptr;
  FloatRows x = {};
};

/// x quantized by the rules for products with `kernels` (int8). Its memory is blocks 0 and 1 of
/// `memory`. x is validated.
/// @throws Error out_of_memory, not_finite (options.check_finite)
Activations quantize_activations(const char* who, Context& context, Workspace& memory,
                                 const GemmKernels& kernels, const ActivationRules& rules,
                                 const ConstAnyMatrix& x);

/// The same by static parameters. @throws Error unsupported (a device)
Activations quantize_statically(const char* who, Context& context, Workspace& memory,
                                const GemmKernels& kernels, const ActivationRules& rules,
                                const ConstAnyMatrix& x);
/// The same as two codes for each activation (Arithmetic::int15). @throws Error unsupported (a
/// device), out_of_memory, not_finite (options.check_finite)
Activations quantize_int15(const char* who, Context& context, Workspace& memory,
                           const GemmKernels& kernels, const ActivationRules& rules,
                           const ConstAnyMatrix& x);
/// @throws Error unsupported  memory is a device's: int15 is the CPU's
void check_int15_memory(const char* who, const Memory* memory);
/// For products of floats: x rounded to what its codes stand for (rules.rounds_floats()), in block
/// 1 of `memory`. Rows with infinities stay as they are where scales are their own.
/// @throws Error out_of_memory, not_finite (options.check_finite)
MatrixView<const float> round_activations(const char* who, Context& context, Workspace& memory,
                                          const ActivationRules& rules, const ConstAnyMatrix& x);

/// x converted for products with `kernels` (a float format). Its memory is block 0 of `memory`.
Activations convert_activations(Context& context, Workspace& memory, const GemmKernels& kernels,
                                const ConstAnyMatrix& x);

/// Words that sum_codes() writes, and what may be read beyond them; 0: the kernels want no sums.
[[nodiscard]] std::int64_t words_of_sums(const GemmKernels& kernels, std::int64_t m,
                                         std::int64_t k_padded) noexcept;
/// What the kernels want to know beside the codes of all blocks, if anything (ActivationSums); may
/// change the codes.
void sum_codes(Context& context, const GemmKernels& kernels, const RowBlocks& blocks,
               std::byte* codes, std::int64_t k_padded, std::int32_t* sums);
[[nodiscard]] FloatRows rows_of(const ConstAnyMatrix& x, std::int64_t first,
                                std::int64_t rows) noexcept;
/// quantize_rows that only looks. @param flags of outlier columns, or null
[[nodiscard]] QuantizeRowsArgs scan_of(const FloatRows& x, float threshold, float* absmax,
                                       std::uint8_t* flags) noexcept;
[[noreturn]] void fail_not_finite(const char* who, std::int64_t m);
/// Of a batch in the host's memory: NaN and infinities show in the rows' absmax or among the
/// features that are multiplied as floats. @throws Error not_finite
void check_finite(const char* who, const Activations& batch, std::int64_t kept);

/// Memory of a batch that outlives the call is where the context's kernels are.
void prepare_memory(Workspace& memory, const Context& context);

/// Columns of x with an element |x| >= threshold, ascending.
std::vector<std::int64_t> find_outlier_columns(Context& context, const ConstAnyMatrix& x,
                                               float threshold);

}  // namespace detail

struct QuantizedActivations::State {
  Workspace memory;
  detail::Activations batch;
  std::shared_ptr<const detail::ActivationRules> rules;  ///< null for float formats
};

}  // namespace kvant
