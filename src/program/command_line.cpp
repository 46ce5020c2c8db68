#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/atomic_file.hpp"

namespace kvant::program {

bool parse(CLI::App& app, const Arguments& arguments) {
  Arguments reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return false;
  } catch (const CLI::ParseError& error) {
    throw UsageError(std::string(error.what()) + " (try " + app.get_name() + " --help)");
  }
  // An empty value is a variable that a script forgot to set, never a wish.
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0 || option->get_type_size() == 0) continue;
    for (const std::string& value : option->results()) {
      if (value.empty()) throw UsageError(option->get_name() + ": the value is empty");
    }
  }
  return true;
}

namespace {
bool written = false;
}  // namespace

void set_result_written() {
  written = true;
}

bool result_is_written() {
  return written;
}

std::uint64_t parse_size(const std::string& text, const char* option) {
  constexpr std::array<std::pair<const char*, double>, 10> kUnits = {{{"", 1.0},
                                                                      {"b", 1.0},
                                                                      {"kb", 1e3},
                                                                      {"mb", 1e6},
                                                                      {"gb", 1e9},
                                                                      {"tb", 1e12},
                                                                      {"kib", 1024.0},
                                                                      {"mib", 1048576.0},
                                                                      {"gib", 1073741824.0},
                                                                      {"tib", 1099511627776.0}}};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit;
  for (const char* c = end; *c != '\0'; ++c) {
    if (*c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  const auto* found = std::find_if(kUnits.begin(), kUnits.end(),
                                   [&](const auto& entry) { return unit == entry.first; });
  const double bytes = found == kUnits.end() ? 0 : number * found->second;
  if (end == text.c_str() || !(bytes >= 1 && bytes < 1e18)) {
    throw UsageError(std::string(option) + " " + text.substr(0, 40) +
                     ": not a size like 5GB, 500MB or 2GiB");
  }
  return static_cast<std::uint64_t>(bytes);
}

std::string shell_word(const std::string& text) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  const std::string word = text.starts_with('-') ? "./" + text : text;
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void check_place(const std::string& file) {
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  if (folder.empty() || std::filesystem::is_directory(folder)) return;
  throw Error(ErrorCode::io, file + ": there is no folder " + folder.string());
}

void write_text(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  io::AtomicFile file(path);
  file.write(text);
  file.commit();
}

float parse_threshold(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const auto threshold = static_cast<float>(value);
  const bool lost = value != 0 && (threshold == 0 || std::isinf(threshold));
  if (end == text.c_str() || *end != '\0' || !(value >= 0) || std::isinf(value) || lost) {
    throw UsageError("--threshold " + text.substr(0, 40) +
                     ": not 0 (no outlier features) or a number that a float holds, like 6");
  }
  return threshold;
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"bytes", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  char text[64];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

}  // namespace kvant::program
