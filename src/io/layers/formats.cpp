// The list of forms in which linear layers are stored, and what goes through it.

#include <algorithm>
#include <array>

#include "io/checkpoint/linear_rules.hpp"
#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/weight_scheme.hpp"

namespace kvant::io {

// A line for each form. Where two could claim a weight, the more special one comes first.
// clang-format off
#define KVANT_STORED_FORMATS(form) \
  form(bitsandbytes_4bit)          \
  form(fp8_blocks)                 \
  form(compressed_elements)        \
  form(int8_group)                 \
  form(bitsandbytes_int8)          \
  form(gptq)                       \
  form(awq)                        \
  form(compressed_packed)          \
  form(compressed_mxfp4)           \
  form(float_weights)
// clang-format on

// Each is defined in the file of its name.
#define KVANT_DECLARE(name) const StoredFormat& name();
KVANT_STORED_FORMATS(KVANT_DECLARE)
#undef KVANT_DECLARE

namespace {

const auto& list() {
#define KVANT_LIST(name) &name(),
  static const std::array kForms = {KVANT_STORED_FORMATS(KVANT_LIST)};
#undef KVANT_LIST
  return kForms;
}

[[noreturn]] void not_written() {
  throw Error(ErrorCode::unsupported, "this form of weights is read, not written");
}

}  // namespace

std::span<const StoredFormat* const> stored_formats() noexcept {
  return list();
}

const StoredFormat* form_of(const FindTensor& find, const TensorInfo& weight) {
  for (const StoredFormat* form : list()) {
    const std::string_view suffix = form->codes();
    if (!weight.name.ends_with(suffix) || weight.name.size() == suffix.size()) continue;
    if (form->claims(find, weight)) return form;
  }
  return nullptr;
}

bool lacks_scales(const FindTensor& find, const TensorInfo& weight) {
  const auto needs = [&](const StoredFormat* form) {
    return weight.name.ends_with(form->codes()) && form->needs_scales(weight);
  };
  if (weight.shape.size() != 2 || std::none_of(list().begin(), list().end(), needs)) return false;
  const StoredFormat* form = form_of(find, weight);
  return form == nullptr || form->quant_method().empty();
}

const StoredFormat& form_of(const Checkpoint& checkpoint, const StoredLayer& layer) {
  const StoredFormat* form = form_of(find_in(checkpoint), *checkpoint.tensor(layer.tensor).info);
  if (form == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                "tensor " + in_quotes(layer.tensor) + " is not a linear layer");
  }
  return *form;
}

const StoredFormat* form_writing(WeightFormat format, std::string_view quant_method) noexcept {
  for (const StoredFormat* form : list()) {
    const bool named = form->quant_method() == quant_method;
    if ((named || quant_method.empty()) && form->writes(format)) return form;
    if (named && form->writes_if_named(format)) return form;
  }
  return nullptr;
}

std::optional<PartOfLayer> part_of_layer(const FindTensor& find, std::string_view tensor) {
  std::optional<PartOfLayer> result;
  for (const StoredFormat* form : list()) {
    for (const LayerPart& part : form->parts()) {
      if (!tensor.ends_with(part.suffix) || tensor.size() == part.suffix.size()) continue;
      PartOfLayer found{form, &part,
                        std::string(tensor.substr(0, tensor.size() - part.suffix.size()))};
      const TensorView weight = find(found.layer + std::string(form->codes()));
      if (weight.info != nullptr && form_of(find, *weight.info) == form) return found;
      if (!result && !part.common) result = std::move(found);
    }
  }
  return result;
}

FindTensor find_in(const Checkpoint& checkpoint) {
  return [&checkpoint](const std::string& name) {
    return checkpoint.contains(name) ? checkpoint.tensor(name) : TensorView{};
  };
}

namespace {

/// The quantized layer that a tensor of codes begins, opened: everything about it checked but the
/// codes. Nothing where the tensor begins none.
/// @throws FormatError as StoredFormat::open; missing_scales: a part without its codes
std::optional<StoredLayer> checked_layer(const Checkpoint& checkpoint, const FindTensor& find,
                                         const ModelHints& hints, const LinearRules& rules,
                                         const TensorInfo& info) {
  if (const auto part = part_of_layer(find, info.name)) {
    const TensorView weight = find(part->layer + std::string(part->form->codes()));
    if (weight.info == nullptr || form_of(find, *weight.info) != part->form) {
      throw FormatError(FormatErrorKind::missing_scales,
                        "layer " + in_quotes(part->layer) + ": there is " +
                            std::string(part->part->suffix.substr(1)) +
                            " but no weight that it belongs to");
    }
  }
  if (hints.quant_method && lacks_scales(find, info)) {
    throw FormatError(FormatErrorKind::missing_scales,
                      "tensor " + in_quotes(info.name) + " is " +
                          describe_tensor(info.dtype, info.shape) +
                          ", codes of a quantized layer, but its scales are missing");
  }
  const StoredFormat* form = form_of(find, info);
  if (form == nullptr || form->quant_method().empty()) return std::nullopt;
  StoredLayer layer;
  layer.name = layer_of(info, form->codes());
  layer.tensor = info.name;
  // What cannot be recognised cannot be opened either, and then it is said why.
  if (auto known = form->recognise(find, info, rules)) layer = std::move(*known);
  static_cast<void>(form->open(checkpoint, layer));
  return layer;
}

}  // namespace

std::vector<StoredLayer> quantized_layers(const Checkpoint& checkpoint, const ModelHints& hints) {
  const FindTensor find = find_in(checkpoint);
  const LinearRules rules(hints);
  std::vector<StoredLayer> layers;
  for (const TensorInfo* info : checkpoint.tensors()) {
    if (auto layer = checked_layer(checkpoint, find, hints, rules, *info)) {
      layers.push_back(std::move(*layer));
    }
  }
  std::sort(layers.begin(), layers.end(),
            [](const StoredLayer& a, const StoredLayer& b) { return a.name < b.name; });
  return layers;
}

std::string broken_layer(const Checkpoint& checkpoint, const std::string& name,
                         const ModelHints& hints) {
  const FindTensor find = find_in(checkpoint);
  const LinearRules rules(hints);
  std::string why;
  for (const StoredFormat* form : list()) {
    // The tensor of codes knows best; where there is none, a part of the layer says so.
    std::vector<std::string> tensors = {name + std::string(form->codes())};
    for (const LayerPart& part : form->parts()) tensors.push_back(name + std::string(part.suffix));
    for (const std::string& tensor : tensors) {
      const TensorView view = find(tensor);
      if (view.info == nullptr) continue;
      try {
        static_cast<void>(checked_layer(checkpoint, find, hints, rules, *view.info));
      } catch (const FormatError& error) {
        if (tensor == tensors.front()) return error.what();
        if (why.empty()) why = error.what();
      }
    }
  }
  return why;
}

std::vector<FormatError> unreadable_layers(const Checkpoint& checkpoint, const ModelHints& hints) {
  const FindTensor find = find_in(checkpoint);
  const LinearRules rules(hints);
  std::vector<FormatError> errors;
  for (const TensorInfo* info : checkpoint.tensors()) {
    try {
      if (const auto layer = checked_layer(checkpoint, find, hints, rules, *info)) {
        static_cast<void>(input_params(checkpoint, *layer));
      }
    } catch (const FormatError& error) {
      errors.push_back(error);
    }
  }
  return errors;
}

std::uint64_t stored_bytes(const StoredFormat& form, const NewLayer& layer) {
  std::uint64_t bytes = 0;
  for (const TensorSpec& tensor : form.specs(layer)) bytes += byte_size(tensor);
  return bytes;
}

// What a form has that leaves something out.

void RowDecoder::unpack(std::int64_t, std::int64_t, std::span<const std::byte>,
                        std::uint8_t*) const {
  throw Error(ErrorCode::unsupported, "no weight format holds the codes of this layer");
}

void StoredFormat::verify_weight(const FindTensor&, const TensorView&, Findings&) const {}

bool StoredFormat::verify_part(const FindTensor&, const TensorView&, Findings&) const {
  return false;
}

void StoredFormat::check_config(const nlohmann::json&, const std::set<std::string>&,
                                const ConfigErrors&) const {}

void StoredFormat::check_tensors(const nlohmann::json&, const FindTensor&,
                                 std::span<const TensorInfo* const>, Findings&) const {}

bool StoredFormat::writes(WeightFormat) const {
  return false;
}

void StoredFormat::check_new(const NewLayer& layer) const {
  if (layer.block == 0) return;
  throw Error(ErrorCode::invalid_argument, std::string(to_string(layer.format)) +
                                               " has no choice of a block size (" +
                                               std::to_string(layer.block) + " is asked for)");
}

std::vector<TensorSpec> StoredFormat::specs(const NewLayer&) const {
  not_written();
}

void StoredFormat::write_fixed(const NewLayer&, const TensorSink&) const {}

void StoredFormat::write_rows(const KernelTable&, const NewLayer&, std::int64_t,
                              const ConstAnyMatrix&, std::span<float>, const TensorSink&) const {
  not_written();
}

void StoredFormat::write_codes(const NewLayer& layer, std::int64_t, const EncodedRows&,
                               const TensorSink&) const {
  throw Error(ErrorCode::unsupported, "layer " + in_quotes(layer.name) + ": " +
                                          std::string(to_string(layer.format)) +
                                          " is not written from chosen codes; GPTQ's and AWQ's "
                                          "forms are");
}

void StoredFormat::write_end(const NewLayer&, std::span<const float>, const TensorSink&) const {}

void StoredFormat::settle(const NewLayer&, std::span<float>) const {}

void StoredFormat::round_trip(const KernelTable&, const NewLayer&, std::int64_t,
                              MatrixView<const float>, std::span<const float>,
                              MatrixView<float>) const {
  not_written();
}

nlohmann::ordered_json StoredFormat::quantization_config(const QuantizationFacts&) const {
  not_written();
}

// Schemes: the floating formats, and what the forms write.

std::string_view to_string(WeightScheme scheme) noexcept {
  if (!scheme.format) return "keep";
  if (scheme == WeightScheme::llm_int8) return "llm-int8";
  return to_string(*scheme.format);
}

const std::vector<WeightScheme>& weight_schemes() {
  static const std::vector<WeightScheme> kSchemes = [] {
    std::vector<WeightScheme> schemes = {WeightScheme::llm_int8};
    for (const WeightFormatInfo& info : weight_format_table()) {
      if (form_writing(info.format) != nullptr) schemes.push_back(info.format);
    }
    schemes.insert(schemes.end(), {WeightScheme::fp16, WeightScheme::bf16, WeightScheme::fp32});
    return schemes;
  }();
  return kSchemes;
}

std::optional<WeightScheme> weight_scheme_from_name(std::string_view name) {
  if (name == to_string(WeightScheme::keep)) return WeightScheme::keep;
  for (const WeightScheme scheme : weight_schemes()) {
    if (name == to_string(scheme)) return scheme;
  }
  return std::nullopt;
}

std::string weight_scheme_names() {
  std::string names;
  for (const WeightScheme scheme : weight_schemes()) {
    names += (names.empty() ? "" : ", ") + std::string(to_string(scheme));
  }
  return names;
}

}  // namespace kvant::io
