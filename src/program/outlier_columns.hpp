#pragma once

// Which input features of which layers are outliers: read from a file, or found by running a model.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace kvant::program {

/// Module -> ascending input features.
using OutlierColumns = std::map<std::string, std::vector<std::int64_t>>;

/// A JSON object: {"transformer.h.0.attn.c_attn": [3, 17], ...}; sorted. A column that is there
/// twice is an error.
/// @throws Error io, invalid_file
OutlierColumns read_outlier_columns(const std::string& file);

/// Runs a gpt_bigcode model over a text, block by block in float.
/// @throws Error unsupported: another model, or a program built without that model
OutlierColumns find_outlier_columns(const std::string& model, const std::string& text_file,
                                    float threshold, int threads, bool quiet);

}  // namespace kvant::program
