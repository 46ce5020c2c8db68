#include "io/checkpoint/checkpoint_source.hpp"

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

}  // namespace

CheckpointSource::CheckpointSource(const fs::path& folder)
    : folder_(require_model_folder(folder)), checkpoint_(folder), config_(folder / "config.json") {
  for (const TensorInfo* info : checkpoint_.tensors()) {
    tensors_.push_back({info, &checkpoint_.file_of(info->name)});
  }
}

}  // namespace kvant::io
