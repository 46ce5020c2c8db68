#pragma once

// WeightSource: where a model's tensors come from, by the names of Hugging Face's checkpoints, as
// floats: a folder, whose linear layers may be quantized, or a GGUF file.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/models/config.hpp"
#include "kvant/packed_weights.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/ranks.hpp"

namespace kvant::models {

/// What the name of a layer's weight ends with.
inline constexpr std::string_view kWeight = ".weight";

/// A tensor as it is read.
struct SourceTensor {
  std::vector<std::uint64_t> shape;
  DType dtype;  ///< float32, float16 or bfloat16
};

/// Stored codes, packed.
struct PackedLayer {
  PackedWeights weights;
  /// Input j of the weights is input order[j] of the layer (io::LayerCodes); empty: they are the
  /// same.
  std::vector<std::int32_t> order = {};
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  [[nodiscard]] virtual bool contains(const std::string& name) const = 0;
  /// @throws Error invalid_argument (missing), unsupported (no floats, and no form that is known)
  [[nodiscard]] virtual SourceTensor describe(const std::string& name) const = 0;
  /// Rows [first, first + count) in describe()'s dtype; a vector is one row.
  virtual void read(const std::string& name, std::int64_t first, std::int64_t count,
                    void* out) const = 0;
  /// All tensors, those of a GGUF file that the model has no name for as the file has them.
  [[nodiscard]] virtual std::vector<std::string> names() const = 0;
  /// Columns [first, first + count) of one row.
  virtual void read_columns(const std::string& name, std::int64_t row, std::int64_t first,
                            std::int64_t count, void* out) const;
  /// Gives back pages of the file.
  virtual void release(const std::string& name) const = 0;
  /// A layer's weight [outputs, inputs] as the codes that are stored, packed for the context;
  /// nothing where no weight format holds them, and where it is stored in floats.
  /// @throws Error as PackedWeights::from_codes, FormatError
  [[nodiscard]] virtual std::optional<PackedLayer> packed(Context& /*context*/,
                                                          const std::string& /*name*/) const {
    return std::nullopt;
  }
  /// The same of some outputs alone, in this order. Here the whole layer is read first.
  /// @throws Error unsupported: outputs that share a scale with others
  [[nodiscard]] virtual std::optional<PackedLayer> packed_rows(
      Context& context, const std::string& name, const std::vector<Share>& rows) const;
  /// The static scale and zero point of a packed layer's int8 activations, where its form says so;
  /// else nothing. @throws FormatError bad_scales
  [[nodiscard]] virtual std::optional<QuantParams> input_params(const std::string& /*name*/) const {
    return std::nullopt;
  }
  /// Bytes of all tensors as they are stored but the weights of these layers, in whatever form.
  [[nodiscard]] virtual std::uint64_t bytes_beside(const std::set<std::string>& layers) const = 0;
  /// Whether a tensor's floats are expanded codes.
  [[nodiscard]] virtual bool is_quantized(const std::string& /*name*/) const { return false; }
  /// Where a family's layers are transposed in its checkpoints, they are here too.
  [[nodiscard]] virtual bool keeps_transposed() const { return true; }
  /// Whether a layer of such a family is: floats are, expanded codes lie by outputs.
  [[nodiscard]] bool is_transposed(const std::string& name) const {
    return keeps_transposed() && !is_quantized(name);
  }
  /// The checkpoint behind it; null: a GGUF file.
  [[nodiscard]] virtual const io::Checkpoint* checkpoint() const { return nullptr; }
  /// Bytes of tensors, as they are stored, that were read so far.
  [[nodiscard]] std::int64_t bytes_read() const noexcept { return bytes_read_; }

  /// For those that read tensors of checkpoint() themselves.
  void count_bytes(std::uint64_t bytes) const noexcept {
    bytes_read_ += static_cast<std::int64_t>(bytes);
  }

 private:
  mutable std::int64_t bytes_read_ = 0;  // models are loaded by one thread
};

/// What packing says of codes and scales, as an error of the file that they come from.
[[noreturn]] inline void throw_of_file(const std::string& where, const Error& error) {
  const bool of_file = error.code() == ErrorCode::invalid_argument;
  throw Error(of_file ? ErrorCode::invalid_file : error.code(), where + ": " + error.what());
}

/// @param path a folder or a .gguf file. @throws Error as Checkpoint and Gguf
[[nodiscard]] std::unique_ptr<WeightSource> open_weights(const std::filesystem::path& path,
                                                         const Config& config);
/// The same with every quantized layer expanded to floats, those of 8 bits too, which models take
/// as they are.
[[nodiscard]] std::unique_ptr<WeightSource> open_float_weights(const std::filesystem::path& path,
                                                               const Config& config);

}  // namespace kvant::models
