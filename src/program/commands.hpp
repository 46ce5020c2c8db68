#pragma once

// The subcommands of kvant. A new one is a file with its function, a line here and one in main.cpp.

#include <string>
#include <vector>

namespace kvant::program {

/// The words after the subcommand's name.
using Arguments = std::vector<std::string>;

/// Each returns an exit code: 0, or 1 for a job that failed in a way that was reported already. For
/// everything else it throws: UsageError (exit code 2) or any other exception (exit code 1), whose
/// message main() prints.
int run_command(const Arguments& arguments);
int quantize_command(const Arguments& arguments);
int calibrate_command(const Arguments& arguments);
int dequantize_command(const Arguments& arguments);
int convert_command(const Arguments& arguments);
int merge_command(const Arguments& arguments);
int inspect_command(const Arguments& arguments);
int report_command(const Arguments& arguments);
int verify_command(const Arguments& arguments);
int select_command(const Arguments& arguments);

}  // namespace kvant::program
