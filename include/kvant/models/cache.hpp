#pragma once

/// @file
/// Cache: keys and values of the tokens that a model has seen, in float32 or as int8 codes.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kvant/activations.hpp"
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
/// The format of a name; nothing: there is none.
[[nodiscard]] KVANT_API std::optional<KvFormat> kv_format_from_name(std::string_view name) noexcept;

/// Keys, or values, of one layer: as floats, or as codes with scales.
struct KVANT_API KvValues {
  std::vector<float> floats;       ///< KvFormat::fp32
  std::vector<std::int8_t> codes;  ///< KvFormat::int8
  /// Of codes, in panels of 16 tokens: [panels, kv heads, 16].
  std::vector<float> scales = {};
};

/// Keys and values of one layer. Kernels take 16 tokens at a time: keys, rotated already, lie in
/// panels [kv_dim, 16], element c of token t at (t / 16 * kv_dim + c) * 16 + t % 16; what a panel
/// has no token for yet is 0. Values lie in rows [kv_dim].
struct KVANT_API LayerCache {
  KvFormat format = KvFormat::fp32;
  std::int64_t tokens = 0;
  KvValues keys = {};
  KvValues values = {};

  /// Appends a token: its heads' keys and values, side by side.
  void append(const float* key, const float* value, std::int64_t heads, std::int64_t head_dim);
  /// Forgets the tokens; the memory stays.
  void clear();
};

/// Memory of a call, which the next one with the same cache takes again. A copy is empty.
struct PassMemory {
  PassMemory() = default;
  PassMemory(const PassMemory&) {}
  PassMemory(PassMemory&&) = default;
  PassMemory& operator=(const PassMemory&) { return *this; }
  PassMemory& operator=(PassMemory&&) = default;
  ~PassMemory() = default;

  std::vector<float> normed, qkv, attended, added, inner, product, routed;
  QuantizedActivations activations;
};

/// Keys and values of the tokens seen so far, and of the text that an encoder has read.
struct KVANT_API Cache {
  explicit Cache(KvFormat kv_format = KvFormat::fp32) : format(kv_format) {}

  KvFormat format;
  std::vector<LayerCache> layers = {};
  std::int64_t length = 0;
  std::vector<LayerCache> source = {};  ///< of the encoder's output, by decoder layer
  PassMemory memory = {};
  /// Set to true from anywhere (a signal handler) to end a call between two blocks: Error
  /// cancelled, and the cache has forgotten its tokens.
  const std::atomic<bool>* cancel = nullptr;

  /// Forgets the tokens; the memory stays, for the next text.
  void clear();
  /// Memory for `tokens` tokens in all, at once; up to so many no call allocates any more.
  /// @throws Error out_of_memory
  void reserve(const Config& config, std::int64_t tokens);
  /// Bytes of one token in all layers.
  [[nodiscard]] static std::size_t token_bytes(const Config& config, KvFormat format);
};

}  // namespace kvant::models
