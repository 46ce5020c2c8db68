// kvant convert: a model in another form, without loss. What is asked for follows from what MODEL
// and OUT are; each kind of conversion is a file of its own.

#include <filesystem>
#include <system_error>

#include "command_line.hpp"
#include "convert_groups.hpp"

namespace kvant::program {
namespace {

constexpr const char* kDescription =
    "Examples:\n"
    "  kvant convert MODEL OUT --as awq\n"
    "  kvant convert MODEL OUT --as gptq-v1 --dry-run\n\n"
    "Writes the folder OUT from the quantized folder MODEL in another form. Codes, zero points "
    "and\n"
    "scales stay what they are, bit for bit; what the new form cannot hold is an error.\n";

}  // namespace

int convert_command(const Arguments& arguments) {
  ConvertGroupsWords words;
  CLI::App app(kDescription, "kvant convert");
  app.add_option("MODEL", words.model, "the folder to read: a model of GPTQ or AWQ")->required();
  app.add_option("OUT", words.output, "the folder to write")->required();
  words.add_to(app);
  if (!parse(app, arguments)) return 0;
  std::error_code ignored;
  if (std::filesystem::is_directory(words.model, ignored)) return convert_groups(words);
  throw UsageError(shell_word(words.model) + " is not a folder");
}

}  // namespace kvant::program
