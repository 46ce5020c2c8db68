#pragma once

// The two kinds of kvant report.

#include <string>

#include "commands.hpp"

namespace kvant::program {

/// kvant report --activations: what the layers of a model read.
int report_activations_command(const Arguments& arguments);

/// The file appears whole or not at all. @throws Error io
void write_file(const std::string& path, const std::string& text);

}  // namespace kvant::program
