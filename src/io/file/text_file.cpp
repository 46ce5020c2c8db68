#include "kvant/io/text_file.hpp"

#include "io/file/file_bytes.hpp"

namespace kvant::io {

std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit) {
  const FileBytes file = FileBytes::read(path, limit);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace kvant::io
