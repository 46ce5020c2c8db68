#include "kvant/io/safetensors_writer.hpp"

#include <utility>

#include "io/file/byte_order.hpp"
#include "io/safetensors/safetensors_header.hpp"
#include "io/safetensors/safetensors_layout.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/atomic_file.hpp"

namespace kvant::io {

void SafeTensorsWriter::add(std::string name, DType dtype, std::vector<std::uint64_t> shape,
                            std::span<const std::byte> data) {
  TensorSpec spec{std::move(name), dtype, std::move(shape)};
  plan_safetensors({spec}, {});  // name and dtype
  if (const std::uint64_t bytes = byte_size(spec); bytes != data.size()) {
    throw Error(ErrorCode::shape_mismatch,
                "SafeTensorsWriter: tensor " + in_quotes(spec.name) + ": " +
                    describe_tensor(spec.dtype, spec.shape) + " needs " + std::to_string(bytes) +
                    " bytes, the data has " + std::to_string(data.size()));
  }
  if (!names_.insert(spec.name).second) {
    throw Error(ErrorCode::invalid_argument,
                "SafeTensorsWriter: tensor " + in_quotes(spec.name) + " was added twice");
  }
  specs_.push_back(std::move(spec));
  data_.push_back(data);
}

void SafeTensorsWriter::set_metadata(const std::string& key, const std::string& value) {
  plan_safetensors({}, {{key, value}});  // UTF-8
  metadata_[key] = value;
}

void SafeTensorsWriter::write(const std::filesystem::path& path) const {
  const SafeTensorsLayout layout = plan_safetensors(specs_, metadata_);
  AtomicFile file(path);
  file.write(layout.header);
  std::vector<std::byte> turned;
  for (const std::size_t i : layout.order) {
    file.write(file_order(data_[i], turning_bytes(specs_[i].dtype), turned));
  }
  file.commit();
}

std::vector<std::byte> SafeTensorsWriter::to_bytes() const {
  const SafeTensorsLayout layout = plan_safetensors(specs_, metadata_);
  const auto bytes = std::as_bytes(std::span(layout.header));
  std::vector<std::byte> result(bytes.begin(), bytes.end());
  std::vector<std::byte> turned;
  for (const std::size_t i : layout.order) {
    const auto data = file_order(data_[i], turning_bytes(specs_[i].dtype), turned);
    result.insert(result.end(), data.begin(), data.end());
  }
  return result;
}

}  // namespace kvant::io
