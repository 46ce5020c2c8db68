// kvant convert: a model in another kind of file. What is asked for follows from the names (a file
// that ends with .gguf, or a folder) and from --as.

#include "convert.hpp"
#include "command_line.hpp"
#include "kvant/io/gguf.hpp"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <system_error>

namespace kvant::program {
namespace {

constexpr const char* kConvertDescription =
    "Examples:\n"
    "  kvant convert MODEL OUT.gguf --type q4_k\n"
    "  kvant convert IN.gguf OUT.gguf --type q8_0\n"
    "  kvant convert IN.gguf FOLDER --dtype bf16\n"
    "  kvant convert GPTQ_FOLDER FOLDER --as awq\n\n"
    "Writes a model as a GGUF file, for llama.cpp and what reads its format; one from a GGUF file "
    "as\n"
    "a folder in Hugging Face form; or a folder of GPTQ or AWQ in the other's form, where codes, "
    "zero\n"
    "points and scales stay what they are, bit for bit.\n"
    "(Floats into codes and back: kvant quantize, kvant dequantize.)\n";

void add_options(ConvertWords& words, CLI::App& app) {
  app.add_option("MODEL", words.model, "a folder in Hugging Face form, or a .gguf file")
      ->required();
  app.add_option("OUT", words.output, "a .gguf file, or a folder, to write")->required();
  app.add_option("--as", words.form,
                 "from a folder of GPTQ or AWQ into a folder: gptq (version 2), gptq-v1, or awq\n"
                 "(gemm; 4 bits, no activation order)")
      ->type_name("FORM")
      ->check(CLI::IsMember({"gptq", "gptq-v1", "awq"}));
  app.add_option("--type", words.type,
                 "into GGUF, what linear layers become: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0,\n"
                 "q5_1, q4_k, q5_k, q6_k (default: q8_0)")
      ->type_name("NAME");
  app.add_flag("--no-tokenizer", words.no_tokenizer, "into GGUF: leave the tokenizer out");
  app.add_option("--dtype", words.dtype,
                 "from GGUF into a folder: fp32, fp16 or bf16 (default: as stored, fp32 for "
                 "blocks)")
      ->type_name("NAME");
  words.flags.add_to(app);
}

/// Options of one conversion beside another.
void check_words(const ConvertWords& words, bool from_gguf, bool to_gguf) {
  const bool gguf = from_gguf || to_gguf;
  if (gguf && !words.form.empty()) {
    throw UsageError("--as is for folders; what a .gguf file holds is --type");
  }
  if (gguf && words.flags.dry_run) {
    throw UsageError("--dry-run is for folders of GPTQ and AWQ");
  }
  if (!gguf && (!words.type.empty() || !words.dtype.empty() || words.no_tokenizer)) {
    throw UsageError("--type, --dtype and --no-tokenizer are for .gguf files");
  }
  std::error_code ignored;
  if (gguf) return;
  if (!std::filesystem::is_directory(words.model, ignored)) {
    throw UsageError(shell_word(words.model) +
                     " is not a folder, and no .gguf file is among MODEL and OUT");
  }
  if (words.form.empty()) {
    throw UsageError(
        "one of MODEL and OUT must be a .gguf file, or --as must name a form of GPTQ or AWQ; "
        "for floats into codes and back there are kvant quantize and kvant dequantize");
  }
}

}  // namespace

int convert_command(const Arguments& arguments) {
  ConvertWords words;
  CLI::App app(kConvertDescription, "kvant convert");
  add_options(words, app);
  if (!parse(app, arguments)) return 0;
  check_words(words, io::has_gguf_name(words.model), io::has_gguf_name(words.output));
  if (io::has_gguf_name(words.output)) return convert_to_gguf(words);
  if (io::has_gguf_name(words.model)) return convert_from_gguf(words);
  return convert_form(words);
}

}  // namespace kvant::program
