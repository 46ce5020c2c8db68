#pragma once

/// @file
/// CheckpointWriter: a model folder that appears whole or not at all: shards, index, other files.
///
///     kvant::io::CheckpointWriter out("folder", specs, {.max_shard_size = 2'000'000'000});
///     out.write("transformer.wte.weight", 0, bytes);
///     out.add_file("config.json", text);
///     out.commit();

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/safetensors_stream.hpp"

namespace kvant::io {

/// Bytes of tensors in one file, as Hugging Face's tools choose them.
inline constexpr std::uint64_t kDefaultShardSize = 5'000'000'000;

/// Sizes of shards, and what may be replaced.
struct CheckpointWriterOptions {
  /// A new file begins where the next tensor would make one larger than this; a tensor above it has
  /// a file of its own.
  std::uint64_t max_shard_size = kDefaultShardSize;
  /// Replace a folder that is there, if it is empty or a checkpoint: it must hold nothing but files
  /// of the layout (config.json, safetensors files, tokenizer, ...) and those named below.
  bool force = false;
  /// Further files, relative to the folder, that may be replaced; copies of these will be added.
  std::vector<std::filesystem::path> replaceable = {};
  std::map<std::string, std::string> metadata = {{"format", "pt"}};  ///< of every file
  /// The folder that the data comes from, which must not be replaced. Empty: there is none.
  std::filesystem::path source = {};
  /// What is written goes here, from any thread, and to no file: for a process that shares the work
  /// with the one that writes. Nothing else of the object may be called then but shards().
  std::function<void(std::string_view tensor, std::uint64_t offset, std::span<const std::byte>)>
      instead = {};
};

/// Tensors by name, cut into files. One file: {"model.safetensors"}, else names with five digits.
struct ShardPlan {
  std::vector<std::string> names;
  std::vector<std::vector<TensorSpec>> tensors;
  std::uint64_t total_size = 0;  ///< bytes of all tensors
};

/// @throws Error invalid_argument (max_shard_size 0, a name twice), out_of_range
[[nodiscard]] KVANT_API ShardPlan plan_shards(std::vector<TensorSpec> tensors,
                                              std::uint64_t max_shard_size);

/// Everything is written into a temporary folder beside the target, made durable, and renamed.
/// An error, an exception or kill -9 leaves the target as it was; the temporary folder
/// ("NAME.tmpPID.N") disappears with the object, only kill -9 leaves it behind.
class KVANT_API CheckpointWriter {
 public:
  /// Claims the disk space and writes the headers.
  /// @throws Error io: exists without force, no such parent, not writable, disk full;
  ///         invalid_argument: the target is or holds options.source; as SafeTensorsStream
  CheckpointWriter(const std::filesystem::path& folder, std::vector<TensorSpec> tensors,
                   const CheckpointWriterOptions& options = {});
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// See SafeTensorsStream::write.
  void write(std::string_view tensor, std::uint64_t offset, std::span<const std::byte> bytes);
  /// A further file of the folder. @throws Error io
  void add_file(const std::string& name, std::string_view text);
  /// A copy of a file under its own name, or another one, which may have folders in it.
  /// @throws Error io; invalid_argument: a name that leads out of the folder
  void copy_file(const std::filesystem::path& file, const std::filesystem::path& name = {});
  /// Writes the index, makes everything durable and gives the folder its name.
  /// @throws Error io; invalid_argument where tensors are incomplete
  void commit();

  /// Names of the safetensors files.
  [[nodiscard]] const std::vector<std::string>& shards() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvant::io
