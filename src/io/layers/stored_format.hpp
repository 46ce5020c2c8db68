#pragma once

// StoredFormat: one way to store the weight of a linear layer in a checkpoint, with everything that
// is to be known about it: which tensors it takes, how they are recognised, checked, read and
// written, and what config.json says of them. Whoever plans, reads, counts, checks or selects goes
// through the list of forms.
//
// A new form is one file in this folder and one line in formats.cpp: a class with the functions
// below and, at its end, `const StoredFormat& NAME()`. A format that is new altogether also needs
// its row in kvant/weight_format.hpp. Tests go over all forms that write.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/layers/values.hpp"
#include "kvant/config.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/finding.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/layer_encoder.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::io {

class LinearRules;

/// A tensor of a layer beside NAME.weight: how its name ends after NAME, and whether it is a scale
/// (or a table of values), of which every one must be finite.
struct LayerPart {
  std::string_view suffix;
  bool scale = false;
  bool common = false;  ///< a name that other tensors may have too: no layer need belong to it
};

/// "transformer.h.0.mlp.c_fc" of "transformer.h.0.mlp.c_fc.weight".
inline constexpr std::string_view kWeightSuffix = ".weight";

/// Part of a weight [outputs, inputs].
struct WeightBlock {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t first_col = 0;
  std::int64_t cols = 0;
};

/// A layer's weights as floats. What belongs to the codes (scales, tables) is in memory; the codes
/// come from the caller, who maps or reads them.
class RowDecoder {
 public:
  virtual ~RowDecoder() = default;
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t size = 0;
  };
  /// The bytes of the tensor NAME.weight that hold these rows.
  [[nodiscard]] virtual Range bytes_of(std::int64_t first_row, std::int64_t rows) const = 0;
  /// @param bytes of block.first_row and block.rows, as bytes_of() says
  /// @param out [block.rows, block.cols]
  virtual void decode(const WeightBlock& block, std::span<const std::byte> bytes,
                      float* out) const = 0;
  /// Input features whose weights are kept in half precision beside the codes; ascending.
  [[nodiscard]] virtual std::vector<std::int64_t> kept_columns() const { return {}; }
  /// As LayerReader::codes().
  [[nodiscard]] virtual std::optional<LayerCodes> codes() const { return std::nullopt; }
  /// The codes of some rows, a byte each, where codes() gives something.
  /// @param bytes as of decode()
  virtual void unpack(std::int64_t first_row, std::int64_t rows, std::span<const std::byte> bytes,
                      std::uint8_t* out) const;
};

/// A layer that will be written.
struct NewLayer {
  std::string name;
  std::uint64_t outputs = 0;
  std::uint64_t inputs = 0;
  WeightFormat format = WeightFormat::int8_row;  ///< of those that the form writes
  DType dtype = DType::float32;                  ///< of the weights that are quantized
  /// Weights that share a scale; 0: as many as the form's own; -1: those of an output.
  std::int64_t block = 0;
  bool nested = true;       ///< scales are quantized too, in forms that may have them so
  bool zero_points = true;  ///< beside scales, in forms that may have them
  /// Input features whose weights are kept beside the codes, ascending; most forms have none.
  std::vector<std::int64_t> kept_columns = {};
  /// The group of each input, in forms that may have an index; empty: neighbours.
  std::vector<std::int32_t> group_of = {};
  /// What int8 codes of the activations are multiplied with, in forms that may say it; nothing:
  /// activations have scales of their own at run time.
  std::optional<float> input_scale = {};
};

/// Where the bytes of new tensors go: name, offset in the tensor, bytes. From any thread.
using TensorSink = std::function<void(std::string_view, std::uint64_t, std::span<const std::byte>)>;

/// What the quantization_config of a new model depends on.
struct QuantizationFacts {
  float threshold = 0;                    ///< of outlier features; 0: there are none
  std::vector<std::string> float_layers;  ///< linear layers that are not quantized
  WeightFormat format = WeightFormat::int8_row;
  DType dtype = DType::float32;  ///< of the model
  std::int64_t block = 0;        ///< weights that share a scale
  bool nested = true;            ///< as NewLayer
  bool zero_points = true;       ///< as NewLayer
  bool act_order = false;        ///< groups are not of neighbours
  bool static_inputs = false;    ///< layers have an input_scale
};

/// Takes one sentence about what is wrong in config.json.
using ConfigErrors = std::function<void(const std::string&)>;

class KVANT_API StoredFormat {
 public:
  virtual ~StoredFormat() = default;

  // Reading.

  /// How the name of the tensor of codes ends after NAME; what is called NAME.weight here.
  [[nodiscard]] virtual std::string_view codes() const { return kWeightSuffix; }
  /// Whether an output's codes lie together. Else all codes are read for any row.
  [[nodiscard]] virtual bool by_rows() const { return true; }
  /// The tensors beside NAME.weight.
  [[nodiscard]] virtual std::span<const LayerPart> parts() const { return {}; }
  /// Whether NAME.weight is meant to be of this form, right or wrong. The first form in the list
  /// that claims a weight has it.
  [[nodiscard]] virtual bool claims(const FindTensor& find, const TensorInfo& weight) const = 0;
  /// Whether elements of this type are codes of this form that mean nothing without the scales
  /// beside them, where it claims them only with these.
  [[nodiscard]] virtual bool needs_scales(const TensorInfo& /*weight*/) const { return false; }
  /// Name, form and sizes of a claimed weight; nothing where it is not a linear layer, or too
  /// broken to be one. Values are not looked at.
  /// @throws FormatError structure: a description that cannot be read
  [[nodiscard]] virtual std::optional<StoredLayer> recognise(const FindTensor& find,
                                                             const TensorInfo& weight,
                                                             const LinearRules& rules) const = 0;
  /// @throws FormatError for parts that are missing or do not fit
  [[nodiscard]] virtual std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                         const StoredLayer& layer) const = 0;
  /// How a layer's activations are quantized, where the checkpoint says it.
  /// @throws FormatError bad_scales
  [[nodiscard]] virtual std::optional<QuantParams> input_params(const Checkpoint&,
                                                                const StoredLayer&) const {
    return std::nullopt;
  }
  /// Whether the elements of a claimed weight are numbers, of which NaN is worth a word, and not
  /// packed codes that are called elements of some type.
  [[nodiscard]] virtual bool holds_numbers() const { return true; }
  /// What is wrong with a claimed weight: its codes, and that its parts are there and fit.
  virtual void verify_weight(const FindTensor& find, const TensorView& weight,
                             Findings& findings) const;
  /// What is wrong with one of the parts itself.
  /// @return true if its values were judged too
  virtual bool verify_part(const FindTensor& find, const TensorView& part,
                           Findings& findings) const;

  // config.json.

  /// quantization_config.quant_method; empty: floating weights have none.
  [[nodiscard]] virtual std::string_view quant_method() const { return {}; }
  /// Whether config.json may call the form so: by its own name, or as another tool that has it
  /// does.
  [[nodiscard]] virtual bool is_method(std::string_view method) const {
    return method == quant_method();
  }
  /// Whether the section agrees with the layers that are stored in this form.
  /// @param section quantization_config, an object with this form's quant_method
  virtual void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                            const ConfigErrors& error) const;

  /// Whether the section agrees with the tensors of its layers.
  /// @param weights those of codes, of layers in this form
  virtual void check_tensors(const nlohmann::json& section, const FindTensor& find,
                             std::span<const TensorInfo* const> weights, Findings& findings) const;

  // Writing, for forms that kvant writes.

  /// Whether this form is how a format is written.
  [[nodiscard]] virtual bool writes(WeightFormat format) const;
  /// Whether it is another way to write a format, for those who name it.
  [[nodiscard]] virtual bool writes_if_named(WeightFormat /*format*/) const { return false; }
  /// Whether a layer may have an input_scale.
  [[nodiscard]] virtual bool keeps_input_scales() const { return false; }
  /// Whether the weights of some input features can be kept beside the codes.
  [[nodiscard]] virtual bool keeps_columns() const { return false; }
  /// @throws Error invalid_argument, unsupported: a layer that cannot be written so
  virtual void check_new(const NewLayer& layer) const;
  /// The tensors of a layer, that of the codes first.
  [[nodiscard]] virtual std::vector<TensorSpec> specs(const NewLayer& layer) const;
  /// Pieces of a layer must begin at a multiple of so many rows.
  [[nodiscard]] virtual std::uint64_t rows_together(const NewLayer&) const { return 1; }
  /// How many numbers write_rows() leaves for write_end(): 0 where rows do not depend on others.
  [[nodiscard]] virtual std::uint64_t collects(const NewLayer&) const { return 0; }
  /// What does not depend on the weights.
  virtual void write_fixed(const NewLayer& layer, const TensorSink& out) const;
  /// Quantizes rows [first, first + rows.rows) of the layer's weights (F32, F16 or BF16,
  /// contiguous) and writes what belongs to them.
  /// @param collected the layer's collects() numbers, of which each piece sets its own
  /// @throws Error not_finite
  virtual void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                          const ConstAnyMatrix& rows, std::span<float> collected,
                          const TensorSink& out) const;
  /// The same for rows whose codes are chosen already.
  /// @throws Error not_finite, unsupported (a form that has no groups)
  virtual void write_codes(const NewLayer& layer, std::int64_t first, const EncodedRows& rows,
                           const TensorSink& out) const;
  /// What depends on all rows, once they are written.
  virtual void write_end(const NewLayer& layer, std::span<const float> collected,
                         const TensorSink& out) const;
  /// From what all rows left to what reading the layer gives instead.
  virtual void settle(const NewLayer&, std::span<float> collected) const;
  /// What reading back gives for rows [first, first + rows.rows), without a file. NaN where a
  /// weight cannot be stored.
  /// @param settled the layer's collects() numbers after settle()
  virtual void round_trip(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                          MatrixView<const float> rows, std::span<const float> settled,
                          MatrixView<float> out) const;
  /// The quantization_config of a model with layers in this form.
  [[nodiscard]] virtual nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const;
};

/// All forms; where two could claim a weight, the more special one comes first.
[[nodiscard]] KVANT_API std::span<const StoredFormat* const> stored_formats() noexcept;
/// The form that claims a tensor NAME.weight; null: none does.
[[nodiscard]] KVANT_API const StoredFormat* form_of(const FindTensor& find,
                                                    const TensorInfo& weight);
/// Whether a matrix of codes stands without the scales that its form keeps beside it. (Elements of
/// e4m3 may be meant as floats where config.json knows of no quantization.)
[[nodiscard]] KVANT_API bool lacks_scales(const FindTensor& find, const TensorInfo& weight);
/// The form of a layer that was recognised.
[[nodiscard]] KVANT_API const StoredFormat& form_of(const Checkpoint& checkpoint,
                                                    const StoredLayer& layer);
/// The form that writes a quantized format; null: none does.
/// @param quant_method of the form, where several write it; empty: the first of them
[[nodiscard]] KVANT_API const StoredFormat* form_writing(
    WeightFormat format, std::string_view quant_method = {}) noexcept;

/// A part of some form by the end of its name, and the layer before it. Where several forms have
/// such a part, that of the form that claims the layer.
struct PartOfLayer {
  const StoredFormat* form = nullptr;
  const LayerPart* part = nullptr;
  std::string layer;
};
[[nodiscard]] KVANT_API std::optional<PartOfLayer> part_of_layer(const FindTensor& find,
                                                                 std::string_view tensor);

[[nodiscard]] KVANT_API FindTensor find_in(const Checkpoint& checkpoint);

/// The quantized layers of a checkpoint, everything about them checked but the codes; ascending.
/// @throws FormatError as StoredFormat::open; missing_scales: a part without its codes
[[nodiscard]] std::vector<StoredLayer> quantized_layers(const Checkpoint& checkpoint,
                                                        const ModelHints& hints);

/// Why those of its quantized layers cannot be read that cannot: what is wrong with them and their
/// parts, or between them and config.json.
[[nodiscard]] KVANT_API std::vector<FormatError> unreadable_layers(const Checkpoint& checkpoint,
                                                                   const ModelHints& hints);

/// Bytes of a new layer in this form, with scales and kept columns.
[[nodiscard]] KVANT_API std::uint64_t stored_bytes(const StoredFormat& form, const NewLayer& layer);

}  // namespace kvant::io
