// config.json of a model folder: does it parse, and does it say what the tensors are?

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "io/json/json_tree.hpp"
#include "io/layers/group_config.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/architecture.hpp"
#include "kvant/io/checkpoint.hpp"
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

/// The section against the tensors of the layers that are stored in a form.
void check_tensors(const std::string& file, const io::StoredFormat& form,
                   const nlohmann::json& section, const std::set<std::string>& layers,
                   const TensorSet& tensors, io::Findings& findings) {
  std::vector<const io::TensorInfo*> weights;
  for (const std::string& layer : layers) {
    weights.push_back(tensors.find(layer + std::string(form.codes())).info);
  }
  io::Findings found;
  form.check_tensors(
      section, [&](const std::string& name) { return tensors.find(name); }, weights, found);
  for (io::Finding& finding : found) {
    finding.message = file + ": " + finding.message;
    findings.push_back(std::move(finding));
  }
}

/// What older AutoGPTQ and AutoAWQ wrote beside config.json in place of its section, against the
/// layers: kvant reads it, transformers does not any more.
/// @return whether there is such a file for all layers
bool check_older_config(const std::string& file, const QuantizedLayers& stored,
                        const TensorSet& tensors, io::Findings& findings) {
  const auto older = io::older_group_config(std::filesystem::path(file).parent_path());
  const bool own = older && std::all_of(stored.begin(), stored.end(), [&](const auto& each) {
                     return each.first->quant_method() == older->method;
                   });
  if (!own) return false;
  const std::string name = older->file.filename().string();
  findings.push_back({io::Severity::warning, "config",
                      file + ": quantization_config is missing; " + name +
                          " has it, which kvant reads and newer transformers do not"});
  const auto error = [&](const std::string& message) {
    findings.push_back({io::Severity::error, "config", older->file.string() + ": " + message});
  };
  for (const auto& [form, layers] : stored) {
    form->check_config(older->section, layers, error);
    check_tensors(older->file.string(), *form, older->section, layers, tensors, findings);
  }
  return true;
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
    if (check_older_config(file, stored, tensors, findings)) return;
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
      check_tensors(file, *form, *section, layers, tensors, findings);
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

/// The number of blocks and the embedding, for families of the table.
void check_blocks(const std::string& file, const io::ModelHints& hints,
                  const nlohmann::json& config, const TensorSet& tensors, io::Findings& findings) {
  const io::Architecture* family = io::find_architecture(hints.model_type);
  if (family == nullptr || family->blocks.empty() || !config.is_object()) return;
  const auto error = [&](const std::string& message) {
    findings.push_back({io::Severity::error, "config", file + ": " + message});
  };
  std::set<std::uint64_t> blocks;
  std::string prefix;
  bool more = false;                              // than blocks: not only some layers of a model
  for (const bool with_prefix : {true, false}) {  // base models are saved without it
    if (!blocks.empty()) break;
    prefix = with_prefix ? std::string(family->prefix) : std::string();
    const std::string start = prefix + std::string(family->blocks) + ".";
    for (const io::TensorFile& model : tensors.files()) {
      for (const io::TensorInfo& info : model.tensors()) {
        more = more || !info.name.starts_with(start);
        if (!info.name.starts_with(start)) continue;
        const char* const end = info.name.data() + info.name.size();
        std::uint64_t block = 0;
        const auto read = std::from_chars(info.name.data() + start.size(), end, block);
        if (read.ec == std::errc() && read.ptr != end && *read.ptr == '.') blocks.insert(block);
      }
    }
  }
  if (blocks.empty()) return;
  for (const char* key : {"num_hidden_layers", "n_layer", "num_layers"}) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_number_unsigned()) continue;
    const auto said = it->get<std::uint64_t>();
    if (said != blocks.size() || *blocks.rbegin() + 1 != said) {
      error(std::string(key) + " is " + std::to_string(said) + ", but the tensors are of " +
            counted(blocks.size(), "block") + ", the last of them " +
            std::to_string(*blocks.rbegin()));
    }
    break;
  }
  const std::string tokens = prefix + std::string(family->tokens) + ".weight";
  if (more && !family->tokens.empty() && tensors.find(tokens).info == nullptr) {
    error("there is no tensor " + io::in_quotes(tokens) + ", the embedding of tokens");
  }
}

/// What reading the layers says, where nothing was said of them before.
void check_layers(const io::Checkpoint& checkpoint, const io::ModelHints& hints,
                  VerifyResult& result) {
  const auto said = [&](const std::string& message) {
    return std::any_of(result.findings.begin(), result.findings.end(),
                       [&](const io::Finding& finding) {
                         return finding.severity == io::Severity::error &&
                                finding.message.find(message) != std::string::npos;
                       });
  };
  for (const io::FormatError& error : io::unreadable_layers(checkpoint, hints)) {
    if (!said(error.what())) {
      add_finding(result, io::Severity::error, to_string(error.kind()), error.what());
    }
  }
}

}  // namespace

void verify_config(const std::filesystem::path& folder, const io::ModelHints& hints,
                   const TensorSet& tensors, bool foreign,
                   const std::optional<io::Checkpoint>& checkpoint, VerifyResult& result) {
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
        const std::size_t before = result.count(io::Severity::error);
        check_quantization(path.string(), hints, json, tensors, result.findings);
        check_blocks(path.string(), hints, json, tensors, result.findings);
        verify_sizes(path.string(), hints, json, tensors, result.findings);
        // What is wrong already would only be said again in other words.
        if (checkpoint && before == 0 && result.count(io::Severity::error) == 0) {
          check_layers(*checkpoint, hints, result);
        }
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
