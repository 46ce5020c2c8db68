#pragma once

// What the subcommands' command lines share.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "commands.hpp"

// (CLI11 is included where options are added: to read it takes longer than most of these sources.)
namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace kvant::program {

/// A wrong command line: exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Parses the words after the subcommand's name.
/// @return false: --help was asked for and printed
/// @throws UsageError
bool parse(CLI::App& app, const Arguments& arguments);

/// Told by a command whose result is a folder that is complete now: from then on a standard output
/// that cannot be written to is no failure.
void set_result_written();
[[nodiscard]] bool result_is_written();

/// "5GB", "500 MB", "2GiB", "1000000"; powers of 1000, or of 1024 with an i.
/// @throws UsageError, naming the option
std::uint64_t parse_size(const std::string& text, const char* option);

/// A path or word as it must be typed into a shell: quoted where that is needed, and never taken
/// for an option.
std::string shell_word(const std::string& text);

/// A file can be written there, as far as its folder tells: asked before long work. Without a name
/// nothing. @throws Error io
void check_place(const std::string& file);
/// Writes a file, whole or not at all; without a name nothing. @throws Error io
void write_text(const std::string& path, const std::string& text);

/// The value of --threshold. @throws UsageError
float parse_threshold(const std::string& text);

/// "1.23 GB"
std::string size_text(std::uint64_t bytes);

}  // namespace kvant::program
