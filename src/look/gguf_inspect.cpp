#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "io/text/quoting.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/look/gguf.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

constexpr std::size_t kLongestValue = 60;

/// A value on one line.
std::string value_text(const io::Gguf& file, std::string_view key) {
  if (const auto text = file.text(key)) {
    std::string shown = shown_name(text->substr(0, kLongestValue));
    return text->size() > kLongestValue ? shown + "... (" + counted(text->size(), "byte") + ")"
                                        : shown;
  }
  if (const auto integer = file.integer(key)) return std::to_string(*integer);
  if (const auto truth = file.boolean(key)) return *truth ? "true" : "false";
  if (const auto number = file.number(key)) return number_text(*number, 7);
  if (const auto texts = file.texts(key)) return "list of " + counted(texts->size(), "text");
  if (const auto numbers = file.numbers(key)) {
    return "list of " + counted(numbers->size(), "number");
  }
  return "(a value that is not shown)";
}

double bits_per_value(const GgufContents::Group& group) {
  return 8.0 * static_cast<double>(group.bytes) /
         static_cast<double>(std::max<std::uint64_t>(1, group.elements));
}

}  // namespace

GgufContents inspect_gguf(const std::filesystem::path& path) {
  const io::Gguf file(path);
  GgufContents contents;
  contents.path = path.string();
  contents.architecture = file.text("general.architecture").value_or("");
  std::error_code ignored;
  const auto size = std::filesystem::file_size(path, ignored);
  if (!ignored) contents.file_bytes = size;
  for (const io::TensorInfo& info : file.tensors()) {
    const io::GgufTensor& tensor = *file.find_gguf(info.name);
    GgufContents::Tensor row;
    row.name = info.name;
    row.type = tensor.type->name;
    row.shape = tensor.shape;
    row.bytes = info.bytes;
    row.elements = info.bytes / tensor.type->bytes * tensor.type->elements;
    GgufContents::Group& group = contents.types[row.type];
    ++group.tensors;
    group.elements += row.elements;
    group.bytes += row.bytes;
    contents.elements += row.elements;
    contents.bytes += row.bytes;
    contents.tensors.push_back(std::move(row));
  }
  std::sort(contents.tensors.begin(), contents.tensors.end(),
            [](const GgufContents::Tensor& a, const GgufContents::Tensor& b) {
              return io::natural_less(a.name, b.name);
            });
  for (const std::string_view key : file.keys()) {
    contents.metadata.emplace_back(key, value_text(file, key));
  }
  return contents;
}

std::string to_text(const GgufContents& contents) {
  TextTable metadata({{"key"}, {"value"}});
  for (const auto& [key, value] : contents.metadata) metadata.add({shown_name(key), value});
  TextTable tensors({{"tensor"}, {"type"}, {"shape"}, {"bytes", Align::right}});
  for (const GgufContents::Tensor& tensor : contents.tensors) {
    tensors.add({shown_name(tensor.name), std::string(tensor.type), shape_text(tensor.shape),
                 bytes_text(tensor.bytes)});
  }
  TextTable types({{"type"},
                   {"tensors", Align::right},
                   {"parameters", Align::right},
                   {"bytes", Align::right},
                   {"bits per weight", Align::right}});
  for (const auto& [type, group] : contents.types) {
    types.add({std::string(type), std::to_string(group.tensors), std::to_string(group.elements),
               bytes_text(group.bytes), number_text(bits_per_value(group), 4)});
  }
  return metadata.text() + "\n" + tensors.text() + "\n" + shown_name(contents.path) + ": " +
         counted(contents.tensors.size(), "tensor") + " in a GGUF file of " +
         bytes_text(contents.file_bytes) + ", " + std::to_string(contents.elements) +
         " parameters" +
         (contents.architecture.empty() ? ""
                                        : ", architecture " + shown_name(contents.architecture)) +
         "\n\n" + types.text();
}

std::string to_json(const GgufContents& contents) {
  nlohmann::ordered_json json;
  json["path"] = contents.path;
  json["format"] = "gguf";
  json["architecture"] = contents.architecture;
  json["file_bytes"] = contents.file_bytes;
  json["parameters"] = contents.elements;
  json["bytes"] = contents.bytes;
  json["metadata"] = nlohmann::ordered_json::object();
  for (const auto& [key, value] : contents.metadata) json["metadata"][key] = value;
  json["types"] = nlohmann::ordered_json::object();
  for (const auto& [type, group] : contents.types) {
    json["types"][std::string(type)] = {{"tensors", group.tensors},
                                        {"parameters", group.elements},
                                        {"bytes", group.bytes},
                                        {"bits_per_weight", bits_per_value(group)}};
  }
  json["tensors"] = nlohmann::ordered_json::array();
  for (const GgufContents::Tensor& tensor : contents.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"type", tensor.type},
                               {"shape", tensor.shape},
                               {"bytes", tensor.bytes}});
  }
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
