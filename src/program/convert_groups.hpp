#pragma once

// kvant convert from folder to folder: GPTQ and AWQ.

#include <string>

#include "job_options.hpp"

namespace kvant::program {

/// --as of such a conversion.
struct ConvertGroupsWords {
  std::string model, output, form;
  JobFlags flags;

  /// --as and the flags of a job.
  void add_to(CLI::App& app);
};

/// @throws kvant::Error
int convert_groups(const ConvertGroupsWords& words);

}  // namespace kvant::program
