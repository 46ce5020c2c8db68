#include "models/calibrate/window_file.hpp"

#include <string>
#include <utility>

#include "kvant/error.hpp"

namespace kvant::models {

WindowFile::WindowFile(std::filesystem::path path, const std::vector<std::int64_t>& tokens,
                       std::int64_t width)
    : path_(std::move(path)), tokens_(tokens), width_(width) {}

bool WindowFile::open_existing() {
  std::error_code ignored;
  if (!std::filesystem::exists(path_, ignored)) return false;
  in_.emplace(path_);
  return true;
}

void WindowFile::create() {
  std::vector<io::TensorSpec> specs;
  for (std::size_t w = 0; w < tokens_.size(); ++w) {
    specs.push_back({std::to_string(w),
                     DType::float32,
                     {static_cast<std::uint64_t>(tokens_[w]), static_cast<std::uint64_t>(width_)}});
  }
  in_.reset();
  out_.emplace(path_, std::move(specs));
}

void WindowFile::read(std::size_t w, std::vector<float>& rows) const {
  const io::TensorInfo* info = in_->find(std::to_string(w));
  rows.resize(static_cast<std::size_t>(tokens_[w] * width_));
  if (info == nullptr || info->bytes != rows.size() * sizeof(float)) {
    throw Error(ErrorCode::invalid_file, path_.string() + ": is not of this calibration");
  }
  // read(), so that the file's pages do not add up in this process.
  in_->read(*info, 0, std::as_writable_bytes(std::span(rows)));
}

void WindowFile::write(std::size_t w, const std::vector<float>& rows) {
  out_->write(std::to_string(w), 0, std::as_bytes(std::span(rows)));
}

void WindowFile::finish() {
  out_->commit();
  out_.reset();
  static_cast<void>(open_existing());
}

void WindowFile::remove() noexcept {
  in_.reset();
  out_.reset();
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace kvant::models
