#pragma once

// bitsandbytes' 4-bit weights: the JSON that describes one, kept in the U8 tensor
// NAME.weight.quant_state.bitsandbytes__nf4 (or __fp4).

#include <cstdint>
#include <optional>
#include <string>

#include "kvant/config.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"

namespace kvant::io {

struct QuantState {
  StoredForm form = StoredForm::nf4;
  std::int64_t blocksize = 64;   ///< consecutive elements of the flattened weight per absmax
  DType dtype = DType::float32;  ///< of the weight before it was quantized
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  bool nested = false;  ///< absmax are 8-bit codes themselves, in blocks of nested_blocksize
  std::int64_t nested_blocksize = 256;
  float nested_offset = 0;

  [[nodiscard]] std::uint64_t elements() const noexcept {
    return static_cast<std::uint64_t>(outputs) * static_cast<std::uint64_t>(inputs);
  }
  [[nodiscard]] std::uint64_t blocks() const noexcept {
    const auto size = static_cast<std::uint64_t>(blocksize);
    return (elements() + size - 1) / size;
  }
};

inline constexpr const char* kQuantStateKey = ".quant_state.bitsandbytes__";

/// The state of tensor `weight` ("NAME.weight"); nothing if the checkpoint has none for it.
/// @param tensor  finds a tensor by its name: TensorView with info == nullptr where there is none
/// @throws FormatError structure, json
template <class FindTensor>
std::optional<QuantState> find_quant_state(const std::string& weight, FindTensor&& tensor);

/// Reads the JSON. @param where for messages
/// @throws FormatError structure, json, ...
KVANT_API QuantState parse_quant_state(std::span<const std::byte> json, const std::string& where);

template <class FindTensor>
std::optional<QuantState> find_quant_state(const std::string& weight, FindTensor&& tensor) {
  for (const char* type : {"nf4", "fp4"}) {
    const std::string name = weight + kQuantStateKey + type;
    if (const TensorView view = tensor(name); view.info != nullptr) {
      return parse_quant_state(view.data, "tensor \"" + name + "\"");
    }
  }
  return std::nullopt;
}

}  // namespace kvant::io
