#include "kvant/io/checkpoint.hpp"

#include <algorithm>
#include <set>
#include <system_error>

#include "io/checkpoint/checkpoint_index.hpp"
#include "io/file/file_bytes.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
/// The index of a model of 10^5 tensors is about 10 MB.
constexpr std::uint64_t kMaxIndexBytes = 100'000'000;

}  // namespace

Checkpoint::Checkpoint(const std::filesystem::path& path, const CheckpointOptions& options)
    : name_(path.string()) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    if (std::filesystem::exists(path / kSingleFile, ignored)) {
      add_file(path / kSingleFile, options.mode);
      collect(name_);
    } else if (std::filesystem::exists(path / kIndexFile, ignored)) {
      open_index(path / kIndexFile, options);
    } else {
      throw Error(ErrorCode::io, name_ + ": holds neither " + kSingleFile + " nor " + kIndexFile);
    }
  } else if (path.extension() == ".json") {
    open_index(path, options);
  } else {
    add_file(path, options.mode);
    collect(name_);
  }
}

void Checkpoint::add_file(const std::filesystem::path& path, LoadMode mode) {
  files_.push_back(open_tensor_file(path, mode));
  paths_.push_back(path);
  for (const auto& [key, value] : files_.back().metadata()) metadata_.emplace(key, value);
}

void Checkpoint::collect(const std::string& where) {
  for (std::size_t f = 0; f < files_.size(); ++f) {
    for (const TensorInfo& info : files_[f].tensors()) {
      tensors_.push_back(&info);
      by_name_.push_back({&info, f});
    }
  }
  std::sort(by_name_.begin(), by_name_.end(),
            [](const Entry& a, const Entry& b) { return a.info->name < b.info->name; });
  const auto twice = std::adjacent_find(
      by_name_.begin(), by_name_.end(),
      [](const Entry& a, const Entry& b) { return a.info->name == b.info->name; });
  if (twice != by_name_.end()) {
    throw FormatError(FormatErrorKind::duplicate,
                      where + ": tensor " + in_quotes(twice->info->name) + " is in " +
                          paths_[twice->file].filename().string() + " and in " +
                          paths_[(twice + 1)->file].filename().string());
  }
}

void Checkpoint::open_index(const std::filesystem::path& path, const CheckpointOptions& options) {
  const std::string where = path.string();
  const CheckpointIndex index = [&] {
    const FileBytes text = FileBytes::read(path, kMaxIndexBytes);
    return parse_checkpoint_index(text.bytes(), where);
  }();

  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index.weight_map) shards.insert(shard);
  for (const std::string& shard : shards) {
    const std::filesystem::path file = path.parent_path() / shard;
    std::error_code error;
    if (!std::filesystem::exists(file, error)) {
      throw FormatError(FormatErrorKind::missing_shard,
                        where + ": the shard " + in_quotes(shard) + " is not beside it");
    }
    add_file(file, options.mode);
  }
  collect(where);

  for (const auto& [tensor, shard] : index.weight_map) {
    const auto file = static_cast<std::size_t>(
        std::distance(shards.begin(), shards.find(shard)));  // both in ascending order
    if (files_[file].contains(tensor)) continue;
    const std::string what =
        where + ": tensor " + in_quotes(tensor) + " is not in its shard " + in_quotes(shard);
    // Standing in another shard is a wrong index, never a dropped tied weight.
    if (!options.allow_missing || contains(tensor)) {
      throw FormatError(FormatErrorKind::missing_tensor, what);
    }
    warnings_.push_back({WarningKind::missing_tensor, what});
  }

  double bytes = 0;
  for (const Entry& entry : by_name_) {
    bytes += static_cast<double>(entry.info->bytes);
    if (index.weight_map.contains(entry.info->name)) continue;
    const std::string what = where + ": tensor " + in_quotes(entry.info->name) + " of " +
                             paths_[entry.file].filename().string() + " is not in weight_map";
    if (options.strict) throw FormatError(FormatErrorKind::structure, what);
    warnings_.push_back({WarningKind::unlisted_tensor, what});
  }
  // Some tools write the sum of the tensors, others that of the files: both are fine.
  double file_bytes = 0;
  for (const auto& file : paths_) {
    std::error_code ignored;
    file_bytes += static_cast<double>(std::filesystem::file_size(file, ignored));
  }
  if (index.total_size && *index.total_size != bytes && *index.total_size != file_bytes) {
    warnings_.push_back({WarningKind::total_size,
                         where + ": total_size is " + std::to_string(*index.total_size) +
                             ", but the tensors have " + std::to_string(bytes) + " bytes"});
  }
}

const TensorInfo* Checkpoint::find(std::string_view name) const noexcept {
  const auto it = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [](const Entry& entry, std::string_view key) { return entry.info->name < key; });
  return it != by_name_.end() && it->info->name == name ? it->info : nullptr;
}

bool Checkpoint::contains(std::string_view name) const noexcept {
  return find(name) != nullptr;
}

const TensorFile& Checkpoint::file_of(std::string_view name) const {
  const auto it = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [](const Entry& entry, std::string_view key) { return entry.info->name < key; });
  if (it == by_name_.end() || it->info->name != name) {
    throw Error(ErrorCode::invalid_argument, name_ + ": there is no tensor " + in_quotes(name) +
                                                 " among " + std::to_string(by_name_.size()));
  }
  return files_[it->file];
}

std::vector<std::filesystem::path> checkpoint_files(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  if (!folder && path.extension() != ".json") return {path};
  if (folder && std::filesystem::exists(path / kSingleFile, ignored)) return {path / kSingleFile};
  const auto index = folder ? path / kIndexFile : path;
  const auto parent = folder ? path : path.parent_path();
  std::set<std::filesystem::path> files;
  try {
    const FileBytes text = FileBytes::read(index, kMaxIndexBytes);
    for (const auto& [tensor, shard] :
         parse_checkpoint_index(text.bytes(), index.string()).weight_map) {
      if (std::filesystem::exists(parent / shard, ignored)) files.insert(parent / shard);
    }
  } catch (const Error&) {
    // Opening the checkpoint says what is wrong with the index.
  }
  return {files.begin(), files.end()};
}

}  // namespace kvant::io
