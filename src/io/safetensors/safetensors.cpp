#include "kvant/io/safetensors.hpp"

#include <utility>

#include "io/safetensors/safetensors_header.hpp"

namespace kvant::io {

SafeTensors::SafeTensors(const std::filesystem::path& path, LoadMode mode)
    : TensorFile(path, mode, [](std::span<const std::byte> file, const std::string& name) {
        SafeTensorsHeader header = parse_safetensors(file, name);
        return Contents{std::move(header.tensors), std::move(header.metadata)};
      }) {}

SafeTensors::SafeTensors(std::span<const std::byte> bytes, std::string name)
    : TensorFile(bytes, std::move(name),
                 [](std::span<const std::byte> file, const std::string& file_name) {
                   SafeTensorsHeader header = parse_safetensors(file, file_name);
                   return Contents{std::move(header.tensors), std::move(header.metadata)};
                 }) {}

SafeTensors SafeTensors::from_bytes(std::span<const std::byte> bytes, std::string name) {
  return {bytes, std::move(name)};
}

TensorFile open_tensor_file(const std::filesystem::path& path, LoadMode mode) {
  return SafeTensors(path, mode);
}

}  // namespace kvant::io
