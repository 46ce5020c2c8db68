#pragma once

// Writing elements of e4m3 or int8 with scales for outputs or squares: what compressed-tensors'
// form and DeepSeek's have in common.

#include <string>
#include <vector>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// NAME.weight and NAME.SCALES. @param scale_type of the scales
[[nodiscard]] std::vector<TensorSpec> element_specs(const NewLayer& layer, const char* scales,
                                                    DType scale_type);
/// As StoredFormat::write_rows; `first` is a multiple of the format's block_rows.
void write_element_rows(const KernelTable& kernels, const NewLayer& layer, const char* scales,
                        DType scale_type, std::int64_t first, const ConstAnyMatrix& rows,
                        const TensorSink& out);
/// As StoredFormat::round_trip.
void round_trip_elements(const KernelTable& kernels, const NewLayer& layer, DType scale_type,
                         MatrixView<const float> rows, MatrixView<float> out);
/// As StoredFormat::check_new.
void check_new_elements(const NewLayer& layer);

}  // namespace kvant::io
