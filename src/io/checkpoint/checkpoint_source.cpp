#include "io/checkpoint/checkpoint_source.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <system_error>

#include "kvant/error.hpp"

namespace kvant::io {
namespace {

namespace fs = std::filesystem;

const fs::path& require_model_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw Error(ErrorCode::io, folder.string() +
                                   ": is not a folder; a model is a folder with config.json and "
                                   "safetensors files");
  }
  if (!fs::exists(folder / "config.json", error)) {
    throw Error(ErrorCode::io,
                folder.string() + ": holds no config.json; it says what the model is");
  }
  return folder;
}

bool goes_along(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name == "config.json" || name.ends_with(".index.json")) return false;
  for (const char* text : {"LICENSE", "LICENCE", "NOTICE", "USE_POLICY"}) {
    if (name.starts_with(text)) return true;
  }
  constexpr std::array<const char*, 8> kKinds = {".json", ".txt",      ".model", ".jinja",
                                                 ".py",   ".tiktoken", ".md",    ".bpe"};
  return std::any_of(kKinds.begin(), kKinds.end(),
                     [&](const char* kind) { return file.extension() == kind; });
}

}  // namespace

CheckpointSource::CheckpointSource(const fs::path& folder)
    : folder_(require_model_folder(folder)), checkpoint_(folder), config_(folder / "config.json") {
  for (const TensorInfo* info : checkpoint_.tensors()) {
    tensors_.push_back({info, &checkpoint_.file_of(info->name)});
  }
}

std::vector<fs::path> CheckpointSource::other_files() const {
  std::vector<fs::path> result;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    std::error_code error;
    if (entry.is_regular_file(error) && goes_along(entry.path())) result.push_back(entry.path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace kvant::io
