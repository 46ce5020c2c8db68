// kvant inspect: what a checkpoint holds.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "command_line.hpp"
#include "kvant/io/gguf.hpp"
#include "kvant/look/gguf.hpp"
#include "kvant/look/inspect.hpp"

namespace kvant::program {
namespace {

constexpr const char* kInspectDescription =
    "Examples:\n"
    "  kvant inspect MODEL\n"
    "  kvant inspect model.safetensors --json\n"
    "  kvant inspect model.gguf\n\n"
    "Lists tensors, dtypes, shapes and bytes, how each linear layer is stored, and the model's\n"
    "footprint as it is and as it would be in other types. The elements are not read: see\n"
    "kvant verify.\n";

}  // namespace

int inspect_command(const Arguments& arguments) {
  std::string path;
  bool json = false;
  CLI::App app(kInspectDescription, "kvant inspect");
  app.add_option("PATH", path, "a folder, a .safetensors file, an index, or a .gguf file")
      ->required();
  app.add_flag("--json", json, "one JSON object instead of tables");
  if (!parse(app, arguments)) return 0;
  if (io::is_gguf_file(path)) {
    const look::GgufContents contents = look::inspect_gguf(path);
    std::cout << (json ? to_json(contents) : to_text(contents));
    return 0;
  }
  const look::CheckpointContents contents = look::inspect_checkpoint(path);
  std::cout << (json ? to_json(contents) : to_text(contents));
  return 0;
}

}  // namespace kvant::program
