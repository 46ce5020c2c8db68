#include "kvant/io/checkpoint.hpp"

#include <algorithm>
#include <cstdio>
#include <set>
#include <system_error>

#include "io/checkpoint/checkpoint_index.hpp"
#include "io/file/checkpoint_layout.hpp"
#include "io/file/file_bytes.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {
namespace {

/// Files beyond that many are mapped only.
constexpr std::size_t kOpenShards = 32;
/// The index of a model of 10^5 tensors is about 10 MB.
constexpr std::uint64_t kMaxIndexBytes = 100'000'000;

/// A size that a JSON file may hold as any number.
std::string whole_number(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

/// What a folder without weights holds instead, and what to do.
std::string what_is_there(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::string shard;
  std::string other;
  for (std::filesystem::directory_iterator at(folder, ignored), end; !ignored && at != end;
       at.increment(ignored)) {
    const std::filesystem::path& file = at->path();
    const std::string name = file.filename().string();
    std::error_code status;
    if (std::filesystem::is_symlink(file, status) && !std::filesystem::exists(file, status)) {
      if (name == kSingleFile || name == kIndexFile) {
        return "; " + name + " is a link that leads nowhere: a download may be incomplete";
      }
    }
    if (role_of(name) == FileRole::weights) shard = std::min(shard.empty() ? name : shard, name);
    if (role_of(name) == FileRole::other_weights && !name.ends_with(".json")) {
      other = std::min(other.empty() ? name : other, name);
    }
  }
  if (!shard.empty()) {
    return ", but " + in_quotes(shard) + "; the index says which tensor is in which shard: get " +
           kIndexFile + " from where the model comes from";
  }
  if (std::filesystem::exists(folder / "adapter_model.safetensors", ignored)) {
    return ", but an adapter (adapter_model.safetensors); merge it into its base model first";
  }
  if (!other.empty()) {
    return ", but " + in_quotes(other) +
           "; kvant reads safetensors: load the model in transformers and save it with "
           "save_pretrained";
  }
  return {};
}

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
      throw Error(ErrorCode::io, name_ + ": holds neither " + kSingleFile + " nor " + kIndexFile +
                                     what_is_there(path));
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
  // A checkpoint may have more shards than a process may have descriptors.
  if (files_.size() > kOpenShards) files_.back().close_descriptor();
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
                        where + ": the shard " + in_quotes(shard) + " is not beside it" +
                            (std::filesystem::is_symlink(file, error)
                                 ? ", but a link that leads nowhere; a download may be incomplete"
                                 : ""));
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
    warnings_.push_back(
        {WarningKind::total_size, where + ": total_size is " + whole_number(*index.total_size) +
                                      ", but the tensors have " + whole_number(bytes) + " bytes"});
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
