#pragma once

// A model folder as the source of a conversion: its tensors by position, config.json, and the files
// that go along.

#include <filesystem>
#include <vector>

#include "io/checkpoint/config_file.hpp"
#include "io/convert/tensor_jobs.hpp"
#include "kvant/io/checkpoint.hpp"

namespace kvant::io {

class CheckpointSource {
 public:
  /// @throws as Checkpoint and ConfigFile; Error io: not a folder, no config.json
  explicit CheckpointSource(const std::filesystem::path& folder);

  [[nodiscard]] const Checkpoint& checkpoint() const noexcept { return checkpoint_; }
  [[nodiscard]] const ConfigFile& config() const noexcept { return config_; }
  [[nodiscard]] ModelHints hints() const { return config_.hints(); }
  [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_; }
  /// All tensors, file by file in the order of their bytes, which disks read fastest.
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const noexcept { return tensors_; }

 private:
  std::filesystem::path folder_;
  Checkpoint checkpoint_;
  ConfigFile config_;
  std::vector<SourceTensor> tensors_;
};

}  // namespace kvant::io
