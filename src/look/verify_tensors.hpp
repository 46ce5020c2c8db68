#pragma once

// What verify_checkpoint looks for in the tensors themselves, and in config.json.

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/io/tensor_file.hpp"
#include "kvant/look/verify.hpp"

namespace kvant::look {

/// The tensors of all files that could be opened, by name; where one is there twice, the first.
class TensorSet {
 public:
  void add(const io::TensorFile& file);
  [[nodiscard]] io::TensorView find(const std::string& name) const;
  [[nodiscard]] const std::vector<io::TensorFile>& files() const noexcept { return files_; }
  [[nodiscard]] bool empty() const noexcept { return by_name_.empty(); }

 private:
  std::vector<io::TensorFile> files_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

void add_finding(VerifyResult& result, io::Severity severity, std::string kind,
                 std::string message);

/// NaN, infinities, scales, codes.
/// @param foreign somebody else's tool quantized the model: only NaN and infinities are looked for
void verify_tensors(const TensorSet& tensors, bool foreign, VerifyResult& result);

/// Whether transformers makes 8-bit (or 4-bit) layers of exactly those weights that are stored so.
/// @param section quantization_config, an object, of bitsandbytes
void verify_modules(const std::string& file, const io::ModelHints& hints,
                    const nlohmann::json& section, const TensorSet& tensors,
                    io::Findings& findings);

/// The sizes that config.json says against the shapes of the tensors, for families of the table.
void verify_sizes(const std::string& file, const io::ModelHints& hints,
                  const nlohmann::json& config, const TensorSet& tensors, io::Findings& findings);

/// config.json and the other JSON files of a model folder, against the tensors.
/// @param checkpoint all of them together; nothing where it could not be opened
void verify_config(const std::filesystem::path& folder, const io::ModelHints& hints,
                   const TensorSet& tensors, bool foreign,
                   const std::optional<io::Checkpoint>& checkpoint, VerifyResult& result);

}  // namespace kvant::look
