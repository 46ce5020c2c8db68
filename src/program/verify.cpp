// kvant verify: everything that is wrong with a checkpoint.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "command_line.hpp"
#include "kvant/error.hpp"
#include "kvant/look/verify.hpp"

namespace kvant::program {
namespace {

constexpr const char* kVerifyDescription =
    "Examples:\n"
    "  kvant verify MODEL\n"
    "  kvant verify model.safetensors.index.json --json\n"
    "  kvant verify model.gguf\n\n"
    "Reads every byte and lists all findings: broken headers, indexes and shards, scales that are\n"
    "negative, missing or not numbers, codes and weight formats that cannot be, NaN and "
    "infinities,\n"
    "a config.json that says something else than the tensors. Exit code 1 if there are errors.\n";

}  // namespace

int verify_command(const Arguments& arguments) {
  std::string path;
  bool json = false;
  CLI::App app(kVerifyDescription, "kvant verify");
  app.add_option("PATH", path, "a folder, a .safetensors file, an index, or a .gguf file")
      ->required();
  app.add_flag("--json", json, "one JSON object instead of lines");
  if (!parse(app, arguments)) return 0;
  const look::VerifyResult result = look::verify_checkpoint(path);
  std::cout << (json ? to_json(result) : to_text(result));
  if (result.ok()) return 0;
  const std::size_t errors = result.count(io::Severity::error);
  throw Error(ErrorCode::invalid_file, path + ": not valid, " + std::to_string(errors) +
                                           (errors == 1 ? " error" : " errors"));
}

}  // namespace kvant::program
