#include "kvant/look/verify.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>

#include "io/checkpoint/foreign_formats.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "look/gguf_look.hpp"
#include "look/text_table.hpp"
#include "look/verify_tensors.hpp"

namespace kvant::look {
namespace {

std::string kind_of(const Error& error) {
  const auto* format = dynamic_cast<const io::FormatError*>(&error);
  return format != nullptr ? to_string(format->kind()) : to_string(error.code());
}

}  // namespace

void add_finding(VerifyResult& result, io::Severity severity, std::string kind,
                 std::string message) {
  result.findings.push_back({severity, std::move(kind), std::move(message)});
}

VerifyResult verify_checkpoint(const std::filesystem::path& path) {
  VerifyResult result;
  result.path = path.string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(ErrorCode::io, result.path + ": no such file or folder");
  }
  if (io::is_gguf_file(path)) return verify_gguf(path);
  // Each file by itself first: one broken shard does not hide another.
  TensorSet tensors;
  std::set<std::string> said;
  for (const auto& file : io::checkpoint_files(path)) {
    try {
      io::TensorFile opened = io::open_tensor_file(file);
      opened.close_descriptor();  // there may be many
      tensors.add(opened);
      ++result.files;
      result.tensors += opened.tensors().size();
      for (const io::TensorInfo& info : opened.tensors()) result.bytes += info.bytes;
    } catch (const Error& error) {
      add_finding(result, io::Severity::error, kind_of(error), error.what());
      said.insert(error.what());
    }
  }
  // Then all together: the index, and names across shards. A tensor that the index lists and no
  // shard holds is the one error that does not end the reading.
  std::optional<io::Checkpoint> opened;
  try {
    const io::Checkpoint& checkpoint =
        opened.emplace(path, io::CheckpointOptions{.allow_missing = true});
    for (const io::Warning& warning : checkpoint.warnings()) {
      if (warning.kind == io::WarningKind::missing_tensor) {
        add_finding(result, io::Severity::error, to_string(io::FormatErrorKind::missing_tensor),
                    warning.text);
      } else {
        add_finding(result, io::Severity::warning, "index", warning.text);
      }
    }
    try {
      static_cast<void>(io::stored_outliers(checkpoint));
    } catch (const io::FormatError& error) {
      add_finding(result, io::Severity::error, "outliers", error.what());
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::io && result.findings.empty()) throw;
    if (said.insert(error.what()).second) {
      add_finding(result, io::Severity::error, kind_of(error), error.what());
    }
  }
  const bool folder = std::filesystem::is_directory(path, ignored);
  const io::ModelHints hints = folder ? io::model_hints_of(path) : io::ModelHints();
  std::vector<const io::TensorInfo*> infos;
  for (const io::TensorFile& file : tensors.files()) {
    for (const io::TensorInfo& info : file.tensors()) infos.push_back(&info);
  }
  const auto foreign = io::foreign_quantization(hints, infos);
  if (foreign) {
    add_finding(result, io::Severity::warning, hints.quant_method ? "config" : "quantized",
                result.path + ": quantized by " + *foreign +
                    ", which kvant does not know: its scales and codes were not judged");
  }
  verify_tensors(tensors, foreign.has_value(), result);
  if (folder) verify_config(path, hints, tensors, foreign.has_value(), opened, result);
  return result;
}

std::string to_text(const VerifyResult& result) {
  std::string text;
  for (const io::Finding& finding : result.findings) {
    text += (finding.severity == io::Severity::error ? "error [" : "warning [") + finding.kind +
            "] " + finding.message + "\n";
  }
  const std::size_t errors = result.count(io::Severity::error);
  const std::size_t warnings = result.count(io::Severity::warning);
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
  for (const io::Finding& finding : result.findings) {
    json["findings"].push_back(
        {{"severity", finding.severity == io::Severity::error ? "error" : "warning"},
         {"kind", finding.kind},
         {"message", finding.message}});
  }
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvant::look
