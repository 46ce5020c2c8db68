#include "kvant/io/verify_checkpoint.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "io/checkpoint_index.hpp"
#include "io/file_bytes.hpp"
#include "io/text_table.hpp"
#include "io/verify_tensors.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/int8_checkpoint.hpp"

namespace kvant::io {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";

/// The safetensors files that belong to a path, whether or not an index can be read.
std::set<std::filesystem::path> candidates(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  if (!folder && path.extension() != ".json") return {path};
  if (folder && std::filesystem::exists(path / "model.safetensors", ignored)) {
    return {path / "model.safetensors"};
  }
  const auto index = folder ? path / kIndexName : path;
  const auto parent = folder ? path : path.parent_path();
  std::set<std::filesystem::path> files;
  try {
    const FileBytes text = FileBytes::read(index, 100'000'000);
    for (const auto& [tensor, shard] :
         parse_checkpoint_index(text.bytes(), index.string()).weight_map) {
      if (std::filesystem::exists(parent / shard, ignored)) files.insert(parent / shard);
    }
  } catch (const Error&) {
    // The index is reported by itself; its shards cannot be known.
  }
  return files;
}

/// What kvant adds to 8-bit layers: kept outlier columns, and how outliers are chosen. What is
/// wrong with scales and formats verify_tensors says, for every layer.
void verify_additions(const Checkpoint& checkpoint, VerifyResult& result) {
  const auto check = [&](auto&& read) {
    try {
      read();
    } catch (const FormatError& error) {
      if (error.kind() != FormatErrorKind::structure) return;
      add_finding(result, Severity::error, "outliers", error.what());
    }
  };
  check([&] { static_cast<void>(stored_outliers(checkpoint)); });
  for (const TensorInfo* info : checkpoint.tensors()) {
    constexpr std::string_view kWeight = ".weight";
    if (!info->name.ends_with(kWeight) || info->dtype != DType::int8) continue;
    const std::string module = info->name.substr(0, info->name.size() - kWeight.size());
    if (info->shape.size() != 2) continue;
    check([&] { static_cast<void>(read_int8_module(checkpoint, module)); });
  }
}

std::string kind_of(const Error& error) {
  const auto* format = dynamic_cast<const FormatError*>(&error);
  return format != nullptr ? to_string(format->kind()) : to_string(error.code());
}

}  // namespace

void add_finding(VerifyResult& result, Severity severity, std::string kind, std::string message) {
  result.findings.push_back({severity, std::move(kind), std::move(message)});
}

VerifyResult verify_checkpoint(const std::filesystem::path& path) {
  VerifyResult result;
  result.path = path.string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(ErrorCode::io, result.path + ": no such file or folder");
  }
  // Each file by itself first: one broken shard does not hide another.
  TensorSet tensors;
  std::set<std::string> said;
  for (const auto& file : candidates(path)) {
    try {
      const SafeTensors opened(file);
      tensors.add(opened);
      ++result.files;
      result.tensors += opened.tensors().size();
      for (const TensorInfo& info : opened.tensors()) result.bytes += info.bytes;
    } catch (const Error& error) {
      add_finding(result, Severity::error, kind_of(error), error.what());
      said.insert(error.what());
    }
  }
  // Then all together: the index, and names across shards. A tensor that the index lists and no
  // shard holds is the one error that does not end the reading.
  try {
    const Checkpoint checkpoint(path, {.allow_missing = true});
    for (const std::string& warning : checkpoint.warnings()) {
      const bool missing = warning.find(" is not in its shard ") != std::string::npos;
      add_finding(result, missing ? Severity::error : Severity::warning,
                  missing ? to_string(FormatErrorKind::missing_tensor) : "index", warning);
    }
    verify_additions(checkpoint, result);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::io && result.findings.empty()) throw;
    if (said.insert(error.what()).second) {
      add_finding(result, Severity::error, kind_of(error), error.what());
    }
  }
  verify_tensors(tensors, result);
  const bool folder = std::filesystem::is_directory(path, ignored);
  if (folder) verify_config(path, tensors, result);
  return result;
}

std::string to_text(const VerifyResult& result) {
  std::string text;
  for (const Finding& finding : result.findings) {
    text += (finding.severity == Severity::error ? "error [" : "warning [") + finding.kind + "] " +
            finding.message + "\n";
  }
  const std::size_t errors = result.count(Severity::error);
  const std::size_t warnings = result.count(Severity::warning);
  text += shown_name(result.path) + ": " + (errors == 0 ? "valid" : "NOT valid") + ", " +
          counted(errors, "error") + ", " + counted(warnings, "warning") + "; " +
          counted(result.tensors, "tensor") + " of " + bytes_text(result.bytes) + " in " +
          counted(result.files, "file") + " looked at\n";
  return text;
}

std::string to_json(const VerifyResult& result) {
  nlohmann::ordered_json json;
  json["path"] = result.path;
  json["valid"] = result.ok();
  json["files"] = result.files;
  json["tensors"] = result.tensors;
  json["bytes"] = result.bytes;
  json["findings"] = nlohmann::ordered_json::array();
  for (const Finding& finding : result.findings) {
    json["findings"].push_back(
        {{"severity", finding.severity == Severity::error ? "error" : "warning"},
         {"kind", finding.kind},
         {"message", finding.message}});
  }
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::io
