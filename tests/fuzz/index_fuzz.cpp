// Any bytes as model.safetensors.index.json: an error, or shards that are plain file names.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "io/checkpoint/checkpoint_index.hpp"
#include "kvant/io/format_error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto index =
        kvant::io::parse_checkpoint_index(std::as_bytes(std::span(data, size)), "index");
    for (const auto& [tensor, shard] : index.weight_map) {
      const bool plain = !shard.empty() && shard != "." && shard != ".." &&
                         shard.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
      if (!plain) std::abort();
    }
  } catch (const kvant::io::FormatError&) {
  }
  return 0;
}
