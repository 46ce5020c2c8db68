// Any bytes as tokenizer.json: an error, or a tokenizer that encodes any text to ids it can decode.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "fuzz/memory_file.hpp"
#include "kvant/error.hpp"
#include "kvant/models/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const kvant::test::MemoryFile file(data, size);
  try {
    const kvant::models::Tokenizer tokenizer(file.path());
    const std::string text =
        "template <typename T> int x = 42;\n\t\"a\xC3\xA9\xF0\x9F\x99\x82\" \xFF";
    for (const auto& id : tokenizer.encode(text)) {
      if (id < 0 || static_cast<std::size_t>(id) >= tokenizer.size()) std::abort();
    }
    (void)tokenizer.decode(tokenizer.encode(text));
    (void)tokenizer.token_bytes(-1);
    (void)tokenizer.token_bytes(2147483647);
  } catch (const kvant::Error&) {
  }
  return 0;
}
