#pragma once

/// @file
/// Checkpoint: a model's tensors, whether they are in one safetensors file or in many shards.
///
///     kvant::io::Checkpoint model("folder");
///     auto w = model.matrix<kvant::float16>("transformer.wte.weight");

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/finding.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/tensor_file.hpp"

namespace kvant::io {

/// How a checkpoint is opened.
struct CheckpointOptions {
  LoadMode mode = LoadMode::map;
  /// What would be a warning is an error: a tensor of a shard that the index does not list.
  bool strict = false;
  /// A tensor that the index lists and no shard holds is a warning instead of an error. Such
  /// checkpoints exist: a tied weight was dropped when it was saved. For loaders that can tie it.
  bool allow_missing = false;
};

/// Opens `model.safetensors`, else the shards that `model.safetensors.index.json` names. Every file
/// is validated by itself, and the index against them. Same calls as TensorFile.
class KVANT_API Checkpoint {
 public:
  /// @param path a folder, a .safetensors file, or an index (a file whose name ends with ".json")
  /// @throws FormatError as SafeTensors does, and for the index: json, structure, duplicate (a
  ///         tensor mapped twice or in two shards), path (a shard name that is not the
  ///         plain name of a file beside the index), missing_shard, missing_tensor; Error io
  explicit Checkpoint(const std::filesystem::path& path, const CheckpointOptions& options = {});

  /// All tensors, file by file, each in the order of its bytes.
  [[nodiscard]] const std::vector<const TensorInfo*>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] bool contains(std::string_view name) const noexcept;
  /// The tensor, or null.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const noexcept;
  /// @throws Error invalid_argument if there is no such tensor
  [[nodiscard]] TensorView tensor(std::string_view name) const {
    return file_of(name).tensor(name);
  }
  /// See TensorFile::matrix.
  template <class T>
  [[nodiscard]] MatrixView<const T> matrix(std::string_view name) const {
    return file_of(name).matrix<T>(name);
  }
  /// See TensorFile::values.
  template <class T>
  [[nodiscard]] std::vector<T> values(std::string_view name) const {
    return file_of(name).values<T>(name);
  }
  /// The file that holds a tensor. @throws Error invalid_argument if there is no such tensor
  [[nodiscard]] const TensorFile& file_of(std::string_view name) const;
  /// See TensorFile::release.
  void release(std::string_view name) const { file_of(name).release(name); }

  /// The "__metadata__" of all files; where two disagree, the first file's value.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return metadata_;
  }
  /// What looked odd without being an error; the library never prints.
  [[nodiscard]] const std::vector<Warning>& warnings() const noexcept { return warnings_; }
  /// The files behind it, as paths.
  [[nodiscard]] const std::vector<std::filesystem::path>& files() const noexcept { return paths_; }

 private:
  void open_index(const std::filesystem::path& path, const CheckpointOptions& options);
  void add_file(const std::filesystem::path& path, LoadMode mode);
  void collect(const std::string& where);

  struct Entry {
    const TensorInfo* info;
    std::size_t file;
  };
  std::string name_;
  std::vector<TensorFile> files_;
  std::vector<std::filesystem::path> paths_;
  std::vector<const TensorInfo*> tensors_;
  std::vector<Entry> by_name_;
  std::map<std::string, std::string> metadata_;
  std::vector<Warning> warnings_;
};

/// The safetensors files that belong to a path, as far as that can be known: those of an index that
/// exist; none where the index cannot be read. For those who look at each file by itself.
[[nodiscard]] KVANT_API std::vector<std::filesystem::path> checkpoint_files(
    const std::filesystem::path& path);

}  // namespace kvant::io
