// Any bytes as config.json: an error, or a configuration that can be changed, written and read
// again; the language model's own reader gives an error or sizes that multiply without overflow.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "fuzz/memory_file.hpp"
#include "io/checkpoint/config_file.hpp"
#include "io/layers/stored_format.hpp"
#include "kvant/error.hpp"
#include "kvant/models/config.hpp"

namespace {

using kvant::io::ConfigFile;
using kvant::test::MemoryFile;

void change_and_read_back(const std::filesystem::path& path) {
  std::optional<ConfigFile> config;
  try {
    config.emplace(path);
  } catch (const kvant::Error&) {
    return;
  }
  const std::string type = config->model_type();
  (void)config->vocabulary();
  (void)config->quant_method();
  config->clear_quantization();
  config->set_quantization(
      kvant::io::form_writing(kvant::WeightFormat::int8_row)
          ->quantization_config({.threshold = 6.0f, .float_layers = {"lm_head"}}));
  config->set_dtype("float16");
  const std::string text = config->text();
  const MemoryFile file(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  const ConfigFile again(file.path());  // what was written must be readable
  if (again.quant_method() != "bitsandbytes" || again.model_type() != type) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile file(data, size);
  change_and_read_back(file.path());
  try {
    const auto config = kvant::models::load_config(file.path());
    if (config.head_dim < 1 || config.kv_dim() < 1 || config.n_head % config.n_kv_head != 0) {
      std::abort();
    }
  } catch (const kvant::Error&) {
  }
  return 0;
}
