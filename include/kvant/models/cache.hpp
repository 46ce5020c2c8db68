#pragma once

/// @file
/// Cache: keys and values of the tokens that a model has seen, in float32 or as int8 codes.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/models/config.hpp"

namespace kvant::models {

/// How keys and values are held.
enum class KvFormat : std::uint8_t {
  fp32,
  int8,  ///< a code a value, one fp32 scale (absmax / 127) for each token and head
};

/// "fp32", "int8"
[[nodiscard]] KVANT_API std::string_view to_string(KvFormat format) noexcept;
[[nodiscard]] KVANT_API std::optional<KvFormat> kv_format_from_name(std::string_view name) noexcept;

/// Keys, or values, of one layer: [tokens, kv_dim], keys rotated already.
struct KVANT_API KvRows {
  std::vector<float> floats;       ///< KvFormat::fp32
  std::vector<std::int8_t> codes;  ///< KvFormat::int8
  std::vector<float> scales = {};  ///< of codes, [tokens, kv heads]

  /// Appends a token's heads, side by side.
  void append(KvFormat format, const float* row, std::int64_t heads, std::int64_t head_dim);
  /// Rows [begin, begin + count) of one head as floats, row by row.
  /// @param stride receives how far the rows lie apart: the floats themselves where there are some,
  ///        else `scratch`, which is filled
  const float* head(std::int64_t head, std::int64_t heads, std::int64_t head_dim,
                    std::int64_t begin, std::int64_t count, std::vector<float>& scratch,
                    std::int64_t& stride) const;
};

/// Keys and values of one layer.
struct LayerCache {
  KvFormat format = KvFormat::fp32;
  KvRows keys = {};
  KvRows values = {};

  [[nodiscard]] std::int64_t tokens(std::int64_t kv_dim) const {
    return static_cast<std::int64_t>(keys.floats.size() + keys.codes.size()) / kv_dim;
  }
};

/// Keys and values of the tokens seen so far.
struct KVANT_API Cache {
  explicit Cache(KvFormat kv_format = KvFormat::fp32) : format(kv_format) {}

  KvFormat format;
  std::vector<LayerCache> layers = {};
  std::int64_t length = 0;

  /// Memory for `tokens` tokens in all, at once; up to so many no call allocates any more.
  /// @throws Error out_of_memory
  void reserve(const Config& config, std::int64_t tokens);
  /// Bytes of one token in all layers.
  [[nodiscard]] static std::size_t token_bytes(const Config& config, KvFormat format);
};

}  // namespace kvant::models
