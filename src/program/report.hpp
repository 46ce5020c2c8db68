#pragma once

// The two kinds of kvant report.

#include "commands.hpp"

namespace kvant::program {

/// kvant report --activations: what the layers of a model read.
int report_activations_command(const Arguments& arguments);

}  // namespace kvant::program
