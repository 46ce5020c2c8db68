#pragma once

// A model folder as the source of a conversion: its tensors by position, config.json, and the files
// that go along.

#include <filesystem>
#include <memory>
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
  [[nodiscard]] ConfigFile& config() noexcept { return config_; }
  /// All tensors, file by file in the order of their bytes: how a disk likes to be read.
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const noexcept { return tensors_; }
  /// Tokenizer, generation settings, code, licence: everything small that is neither weights nor
  /// index nor config.json. Ascending.
  [[nodiscard]] std::vector<std::filesystem::path> companions() const;

 private:
  std::filesystem::path folder_;
  Checkpoint checkpoint_;
  ConfigFile config_;
  std::vector<std::unique_ptr<InputFile>> files_;
  std::vector<SourceTensor> tensors_;
};

}  // namespace kvant::io
