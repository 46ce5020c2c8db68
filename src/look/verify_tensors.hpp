#pragma once

// What verify_checkpoint looks for in the tensors themselves, and in config.json.

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

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
void verify_tensors(const TensorSet& tensors, VerifyResult& result);

/// config.json and the other JSON files of a model folder, against the tensors.
void verify_config(const std::filesystem::path& folder, const TensorSet& tensors,
                   VerifyResult& result);

}  // namespace kvant::look
