#pragma once

// A golden model with some of its tensors, or of its config.json, changed.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace kvant::test {

class ChangedModel {
 public:
  struct Tensor {
    DType dtype = DType::float32;
    std::vector<std::uint64_t> shape = {};
    std::vector<std::byte> bytes = {};

    template <class T>
    void set(std::size_t at, T value) {
      std::memcpy(bytes.data() + at * sizeof(T), &value, sizeof(T));
    }
    template <class T>
    [[nodiscard]] T get(std::size_t at) const {
      T value;
      std::memcpy(&value, bytes.data() + at * sizeof(T), sizeof(T));
      return value;
    }
  };

  /// @param name of a folder in tests/data
  explicit ChangedModel(const std::string& name)
      : config(nlohmann::json::parse(read_text(data_path(name + "/config.json")))) {
    const io::Checkpoint from(data_path(name));
    for (const io::TensorInfo* info : from.tensors()) {
      const auto data = from.tensor(info->name).data;
      tensors[info->name] = {info->dtype, info->shape, {data.begin(), data.end()}};
    }
  }

  /// Elements of another type in a shape of their own, the same bytes.
  void retype(const std::string& name, DType dtype, std::vector<std::uint64_t> shape) {
    tensors.at(name).dtype = dtype;
    tensors.at(name).shape = std::move(shape);
  }
  void set_text(const std::string& name, std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    tensors[name] = {DType::uint8, {text.size()}, {bytes.begin(), bytes.end()}};
  }
  [[nodiscard]] std::string text(const std::string& name) const {
    const Tensor& tensor = tensors.at(name);
    return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
  }

  /// The folder, complete with model.safetensors, in place of what it wrote before.
  /// (Copies share it.)
  [[nodiscard]] std::filesystem::path write() const {
    io::SafeTensorsWriter writer;
    for (const auto& [name, tensor] : tensors) {
      writer.add(name, tensor.dtype, tensor.shape, tensor.bytes);
    }
    writer.write(folder_->path() / "model.safetensors");
    folder_->write("config.json", config.dump());
    for (const auto& [name, json] : beside) folder_->write(name, json.dump());
    return folder_->path();
  }

  std::map<std::string, Tensor> tensors = {};
  nlohmann::json config;
  std::map<std::string, nlohmann::json> beside = {};  ///< other files of the folder

 private:
  std::shared_ptr<TempFolder> folder_ = std::make_shared<TempFolder>();
};

}  // namespace kvant::test
