// config.json of a model folder: does it parse, and does it say what the tensors are?

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "io/json/json_tree.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "look/text_table.hpp"
#include "look/verify_tensors.hpp"

namespace kvant::look {
namespace {

constexpr std::uint64_t kMaxTokenizerBytes = 256u << 20;

/// The quantized layers by their form.
using QuantizedLayers = std::map<const io::StoredFormat*, std::set<std::string>>;

QuantizedLayers find_quantized(const TensorSet& tensors) {
  const io::FindTensor find = [&](const std::string& name) { return tensors.find(name); };
  QuantizedLayers found;
  for (const io::TensorFile& file : tensors.files()) {
    for (const io::TensorInfo& info : file.tensors()) {
      const io::StoredFormat* form = io::form_of(find, info);
      if (form == nullptr || form->quant_method().empty()) continue;
      found[form].insert(info.name.substr(0, info.name.size() - form->codes().size()));
    }
  }
  return found;
}

/// quantization_config against the layers.
void check_quantization(const std::string& file, const io::ModelHints& hints,
                        const nlohmann::json& config, const TensorSet& tensors,
                        io::Findings& findings) {
  const QuantizedLayers stored = find_quantized(tensors);
  const auto error = [&](const std::string& message) {
    findings.push_back({io::Severity::error, "config", file + ": " + message});
  };
  const auto section = config.find("quantization_config");
  if (section == config.end() || section->is_null()) {
    if (stored.empty()) return;
    std::size_t count = 0;
    for (const auto& [form, layers] : stored) count += layers.size();
    return error("quantization_config is missing, but " + counted(count, "layer") +
                 (count == 1 ? " is" : " are") + " quantized (" +
                 io::in_quotes(*stored.begin()->second.begin()) +
                 "): transformers would not load it");
  }
  if (!section->is_object()) return error("quantization_config is not an object");
  const io::FindTensor find = [&](const std::string& name) { return tensors.find(name); };
  for (const io::TensorFile& model : tensors.files()) {
    for (const io::TensorInfo& info : model.tensors()) {
      if (!io::lacks_scales(find, info)) continue;
      error("the model is quantized, but the scales of tensor " + io::in_quotes(info.name) + ", " +
            io::describe_tensor(info.dtype, info.shape) + ", are missing");
    }
  }
  std::string method = "bitsandbytes";  // what early files mean that do not say it
  if (const auto it = section->find("quant_method"); it != section->end() && it->is_string()) {
    method = it->get<std::string>();
  } else {
    error("quantization_config.quant_method is not a string");
  }
  const auto forms = io::stored_formats();
  const std::size_t before = findings.size();
  bool known = false;
  bool any = false;
  for (const io::StoredFormat* form : forms) {
    const auto it = stored.find(form);
    const std::set<std::string> layers = it == stored.end() ? std::set<std::string>() : it->second;
    if (form->is_method(method)) {
      known = true;
      any = any || !layers.empty();
      form->check_config(*section, layers, error);
    } else if (!layers.empty()) {
      error(counted(layers.size(), "layer") + (layers.size() == 1 ? " is" : " are") +
            " stored as " + std::string(form->quant_method()) + " has it (" +
            io::in_quotes(*layers.begin()) + "), but quant_method is " + io::in_quotes(method));
    }
  }
  if (known && !any && findings.size() == before) {
    error("quant_method is " + io::in_quotes(method) + ", but no layer is stored in its form");
  }
  if (method == "bitsandbytes") verify_modules(file, hints, *section, tensors, findings);
}

}  // namespace

void verify_config(const std::filesystem::path& folder, const io::ModelHints& hints,
                   const TensorSet& tensors, bool foreign, VerifyResult& result) {
  std::error_code ignored;
  for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json",
                           "special_tokens_map.json", "tokenizer.json"}) {
    const auto path = folder / name;
    const bool config = std::string_view(name) == "config.json";
    if (!std::filesystem::exists(path, ignored)) {
      if (config) {
        add_finding(result, io::Severity::warning, "config",
                    path.string() + ": missing; transformers needs it");
      }
      continue;
    }
    try {
      const nlohmann::json json = io::read_json_tree(path, kMaxTokenizerBytes);
      if (config && !tensors.empty() && !foreign) {
        check_quantization(path.string(), hints, json, tensors, result.findings);
      }
    } catch (const Error& error) {
      const auto* format = dynamic_cast<const io::FormatError*>(&error);
      add_finding(result, io::Severity::error,
                  format != nullptr ? to_string(format->kind()) : to_string(error.code()),
                  error.what());
    }
  }
}

}  // namespace kvant::look
