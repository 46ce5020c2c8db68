#pragma once

// kvant convert with a GGUF file on one side.

#include <CLI/CLI.hpp>
#include <string>

#include "command_line.hpp"

namespace kvant::program {

/// The words of the command line.
struct ConvertGgufWords {
  std::string model, output, type, dtype;
  std::string max_shard_size = "5GB";
  bool no_tokenizer = false;
  bool force = false;
  bool quiet = false;
  int threads = 0;

  void add_to(CLI::App& app);
};

/// @throws UsageError, kvant::Error
int convert_to_gguf(const ConvertGgufWords& words);
int convert_from_gguf(const ConvertGgufWords& words);

}  // namespace kvant::program
