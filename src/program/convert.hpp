#pragma once

// What kvant convert was asked for, and the conversions there are.

#include <string>

#include "job_options.hpp"

namespace kvant::program {

/// The words of the command line.
struct ConvertWords {
  std::string model, output, form, type, dtype;
  bool no_tokenizer = false;
  JobFlags flags;
};

// @throws UsageError, kvant::Error

/// A folder or a GGUF file into a GGUF file.
int convert_to_gguf(const ConvertWords& words);
/// A GGUF file into a folder.
int convert_from_gguf(const ConvertWords& words);
/// A folder of GPTQ or AWQ into one of GPTQ or AWQ.
int convert_form(const ConvertWords& words);

}  // namespace kvant::program
