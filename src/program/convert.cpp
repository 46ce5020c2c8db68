// kvant convert: a model in another kind of file. What is asked for follows from the names: a file
// that ends with .gguf, or a folder.

#include <filesystem>

#include "command_line.hpp"
#include "convert_gguf.hpp"

namespace kvant::program {
namespace {

constexpr const char* kDescription =
    "Examples:\n"
    "  kvant convert MODEL OUT.gguf --type q4_k\n"
    "  kvant convert IN.gguf OUT.gguf --type q8_0\n"
    "  kvant convert IN.gguf FOLDER --dtype bf16\n\n"
    "Writes a model as a GGUF file, for llama.cpp and what reads its format, or one from a GGUF "
    "file\n"
    "as a folder in Hugging Face form. (Folders into folders: kvant quantize, kvant dequantize.)\n";

}  // namespace

int convert_command(const Arguments& arguments) {
  ConvertGgufWords words;
  CLI::App app(kDescription, "kvant convert");
  app.add_option("MODEL", words.model, "a folder in Hugging Face form, or a .gguf file")
      ->required();
  app.add_option("OUT", words.output, "a .gguf file, or a folder, to write")->required();
  words.add_to(app);
  if (!parse(app, arguments)) return 0;
  const auto is_gguf = [](const std::string& path) {
    return std::filesystem::path(path).extension() == ".gguf";
  };
  if (is_gguf(words.output)) return convert_to_gguf(words);
  if (is_gguf(words.model)) return convert_from_gguf(words);
  throw UsageError(
      "one of MODEL and OUT must be a .gguf file; for folders there are kvant quantize "
      "and kvant dequantize");
}

}  // namespace kvant::program
