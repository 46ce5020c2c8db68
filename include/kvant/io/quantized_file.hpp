#pragma once

/// @file
/// Quantization parameters, and codes with them, in safetensors files, without loss: what is read
/// back gives the same codes and the same values, bit for bit. (inv_scale is not always 1 / scale,
/// so scales alone would not do.)
///
///     kvant::io::save_params("params.safetensors", params);
///     auto same = kvant::io::load_params("params.safetensors");
///
/// NAME.scale F32 [blocks], NAME.inv_scale F32, NAME.zero_point I32 and NAME.shift F32 where the
/// parameters have them, NAME.codes U8 [rows, bytes of a row]; scheme, block and shape are a JSON
/// text under the key NAME.kvant of the metadata.

#include <filesystem>
#include <string>

#include "kvant/config.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/io/tensor_file.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::io {

/// Adds parameters to a file that is being written; they are referred to until write().
/// @throws Error as SafeTensorsWriter::add
KVANT_API void add_params(SafeTensorsWriter& writer, const std::string& name,
                          const QuantParams& params);
/// The same with the codes.
KVANT_API void add_quantized(SafeTensorsWriter& writer, const std::string& name,
                             const QuantizedMatrix& matrix);

/// The scheme's name is that of a scheme of kvant's, "custom" for any other.
/// @throws Error invalid_argument (no such parameters); FormatError structure (a description that
///         cannot be); Error as check_params
[[nodiscard]] KVANT_API QuantParams read_params(const TensorFile& file, const std::string& name);
/// @throws Error as read_params and QuantizedMatrix's constructor
[[nodiscard]] KVANT_API QuantizedMatrix read_quantized(const TensorFile& file,
                                                       const std::string& name);

/// A file with nothing else in it.
/// @throws Error io
KVANT_API void save_params(const std::filesystem::path& path, const QuantParams& params);
/// @throws Error as read_params, io
[[nodiscard]] KVANT_API QuantParams load_params(const std::filesystem::path& path);
/// The same with the codes.
KVANT_API void save_quantized(const std::filesystem::path& path, const QuantizedMatrix& matrix);
/// @throws Error as read_quantized, io
[[nodiscard]] KVANT_API QuantizedMatrix load_quantized(const std::filesystem::path& path);

}  // namespace kvant::io
