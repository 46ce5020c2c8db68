#include "kvant/io/checkpoint_writer.hpp"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "io/file/atomic_folder.hpp"
#include "io/file/checked.hpp"
#include "io/file/checkpoint_layout.hpp"
#include "io/file/open_file.hpp"
#include "io/file/os_error.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/atomic_file.hpp"

namespace kvant::io {
namespace {

constexpr std::size_t kCopyBytes = 1 << 20;
/// Files beyond that many are opened for each write.
constexpr std::size_t kShardsOpenToWrite = 32;

/// Folders inside the temporary one, durable with their parents.
void make_folders(const std::filesystem::path& root, const std::filesystem::path& shown,
                  const std::filesystem::path& folders) {
  std::filesystem::path at;
  for (const std::filesystem::path& part : folders) {
    const std::filesystem::path parent = root / at;
    at /= part;
    std::error_code error;
    const bool made = std::filesystem::create_directory(root / at, error);
    if (error) throw_os_error((shown / at).string(), "cannot create", error.value());
    if (made) sync_folder(parent);
  }
}

std::string shard_name(std::size_t index, std::size_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return text;
}

}  // namespace

ShardPlan plan_shards(std::vector<TensorSpec> tensors, std::uint64_t max_shard_size) {
  if (max_shard_size == 0) {
    throw Error(ErrorCode::invalid_argument, "the largest size of a shard is 0 bytes");
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorSpec& a, const TensorSpec& b) { return a.name < b.name; });
  ShardPlan plan;
  plan.tensors.emplace_back();
  std::uint64_t in_shard = 0;
  for (TensorSpec& tensor : tensors) {
    const std::uint64_t bytes = byte_size(tensor);
    const std::optional<std::uint64_t> total = checked_add(plan.total_size, bytes);
    if (!total) throw Error(ErrorCode::out_of_range, "the tensors have more than 2^64-1 bytes");
    plan.total_size = *total;
    const bool full = in_shard > max_shard_size || bytes > max_shard_size - in_shard;
    if (full && !plan.tensors.back().empty()) {
      plan.tensors.emplace_back();
      in_shard = 0;
    }
    in_shard += bytes;  // at most the total
    plan.tensors.back().push_back(std::move(tensor));
  }
  const std::size_t count = plan.tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    plan.names.push_back(count == 1 ? kSingleFile : shard_name(i, count));
  }
  return plan;
}

struct CheckpointWriter::State {
  State(const std::filesystem::path& path, const CheckpointWriterOptions& options)
      : shown(path), instead(options.instead) {
    if (instead) return;
    folder.emplace(path, AtomicFolder::Options{.force = options.force,
                                               .replaceable = options.replaceable,
                                               .source = options.source});
  }

  std::optional<AtomicFolder> folder;
  std::filesystem::path shown;
  decltype(CheckpointWriterOptions::instead) instead;
  std::vector<std::string> names;
  std::map<std::string, std::size_t, std::less<>> shard_of;
  std::uint64_t total_size = 0;
  std::vector<SafeTensorsStream> shards;  // closed before the folder goes
};

CheckpointWriter::CheckpointWriter(const std::filesystem::path& folder,
                                   std::vector<TensorSpec> tensors,
                                   const CheckpointWriterOptions& options) {
  ShardPlan plan = plan_shards(std::move(tensors), options.max_shard_size);
  state_ = std::make_unique<State>(folder, options);
  state_->names = plan.names;
  state_->total_size = plan.total_size;
  for (std::size_t i = 0; i < plan.names.size(); ++i) {
    for (const TensorSpec& tensor : plan.tensors[i]) {
      if (!state_->shard_of.emplace(tensor.name, i).second) {
        throw Error(ErrorCode::invalid_argument,
                    "checkpoint: tensor " + in_quotes(tensor.name) + " is there twice");
      }
    }
    if (state_->instead) continue;
    state_->shards.emplace_back(state_->folder->temporary() / plan.names[i],
                                std::move(plan.tensors[i]), options.metadata,
                                (folder / plan.names[i]).string());
    // A checkpoint may have more shards than a process may have descriptors.
    if (i >= kShardsOpenToWrite) state_->shards.back().close_between_writes();
  }
}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::write(std::string_view tensor, std::uint64_t offset,
                             std::span<const std::byte> bytes) {
  if (state_->instead) {
    state_->instead(tensor, offset, bytes);
    return;
  }
  const auto shard = state_->shard_of.find(tensor);
  if (shard == state_->shard_of.end()) {
    throw Error(ErrorCode::invalid_argument,
                "checkpoint: there is no tensor " + in_quotes(tensor) + " to write");
  }
  state_->shards[shard->second].write(tensor, offset, bytes);
}

namespace {

/// A further file must not take the name of the tensors' own.
void check_free(const std::vector<std::string>& shards, const std::string& name) {
  if (name != kIndexFile && std::find(shards.begin(), shards.end(), name) == shards.end()) {
    return;
  }
  throw Error(ErrorCode::invalid_argument,
              "checkpoint: " + in_quotes(name) + " is the name of a file of tensors");
}

}  // namespace

void CheckpointWriter::add_file(const std::string& name, std::string_view text) {
  check_free(state_->names, name);
  AtomicFile file(state_->folder->temporary() / name, (state_->shown / name).string());
  file.write(text);
  file.commit();
}

void CheckpointWriter::copy_file(const std::filesystem::path& path,
                                 const std::filesystem::path& as) {
  const OpenFile from(path);
  const std::filesystem::path name = as.empty() ? path.filename() : as.lexically_normal();
  if (name.is_absolute() || name.empty() || *name.begin() == "..") {
    throw Error(ErrorCode::invalid_argument,
                "checkpoint: " + in_quotes(as.string()) + " is not a name inside the folder");
  }
  check_free(state_->names, name.string());
  make_folders(state_->folder->temporary(), state_->shown, name.parent_path());
  AtomicFile to(state_->folder->temporary() / name, (state_->shown / name).string());
  std::vector<std::byte> buffer(
      static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBytes, from.size())));
  for (std::uint64_t done = 0; done < from.size();) {
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), from.size() - done));
    from.read_at(done, std::span(buffer).first(count));
    to.write(std::span<const std::byte>(buffer).first(count));
    done += count;
  }
  to.commit();
}

void CheckpointWriter::commit() {
  for (SafeTensorsStream& shard : state_->shards) shard.commit();
  if (state_->names.size() > 1) {
    nlohmann::json index;  // keys in ascending order
    index["metadata"]["total_size"] = state_->total_size;
    for (const auto& [tensor, shard] : state_->shard_of) {
      index["weight_map"][tensor] = state_->names[shard];
    }
    AtomicFile file(state_->folder->temporary() / kIndexFile,
                    (state_->shown / kIndexFile).string());
    file.write(index.dump(2, ' ', true) + "\n");
    file.commit();
  }
  state_->folder->commit();
}

const std::vector<std::string>& CheckpointWriter::shards() const noexcept {
  return state_->names;
}

}  // namespace kvant::io
