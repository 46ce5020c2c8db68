#pragma once

// Float tensors of a checkpoint as the model holds them.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/models/weight_matrix.hpp"
#include "kvant/ranks.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

/// Copies a tensor of F32, F16 or BF16 and this very shape out of its source; as `dtype`, or as
/// it is stored. Pages of the file are given back slice by slice, so that they never add up.
/// @throws Error invalid_argument (missing), shape_mismatch, unsupported (dtype)
/// @param parts those of the rows that are wanted, in this order, and nothing else of the file is
///        read; empty: all
WeightMatrix load_weights(Context& context, const WeightSource& source, const std::string& name,
                          std::int64_t rows, std::int64_t cols,
                          std::optional<DType> dtype = std::nullopt, std::vector<Share> parts = {});

/// The same of a tensor [cols, rows], transposed into [rows, cols].
WeightMatrix load_transposed(Context& context, const WeightSource& source, const std::string& name,
                             std::int64_t rows, std::int64_t cols,
                             std::optional<DType> dtype = std::nullopt,
                             std::vector<Share> parts = {});

/// Some rows of such a tensor, in the order given, as they are stored.
/// @throws Error as load_weights, out_of_range (no such row)
WeightMatrix load_rows(const WeightSource& source, const std::string& name, std::int64_t rows,
                       std::int64_t cols, const std::vector<std::int64_t>& wanted);

/// A one-dimensional tensor as floats; rounded to bf16 on the way if so asked.
std::vector<float> load_vector(Context& context, const WeightSource& source,
                               const std::string& name, std::int64_t size, bool round_to_bf16,
                               const std::vector<Share>& parts = {});

/// The tensor, which must be there with this shape ([size] or [rows, cols]) and float values.
SourceTensor require_tensor(const WeightSource& source, const std::string& name,
                            const std::vector<std::uint64_t>& shape);

/// config.json's number of blocks against the tensors: layers must not be left out without a word.
/// @param next  a tensor of the block behind the last one
/// @throws Error shape_mismatch where it is there
void require_no_block_beyond(const WeightSource& source, const std::string& next,
                             std::int64_t blocks);

}  // namespace kvant::models
