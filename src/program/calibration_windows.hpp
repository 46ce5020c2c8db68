#pragma once

// A text as the windows of ids that calibration runs.

#include <cstdint>
#include <string>
#include <vector>

#if KVANT_PROGRAM_MODELS
#include "command_line.hpp"
#include "kvant/models/model_files.hpp"
#endif

namespace kvant::program {

/// @throws Error invalid_file: nothing but white space, or bytes that are no text (statistics, say)
[[nodiscard]] std::string read_calibration_text(const std::string& file);

#if KVANT_PROGRAM_MODELS
/// What texts begin with for this model (what its tokenizer puts first, or GPTBigCode's bos).
[[nodiscard]] std::vector<models::TokenId> start_of_text(const models::Config& config,
                                                         const models::Tokenizer& tokenizer);
/// A text of its own, as this model reads it.
[[nodiscard]] std::vector<models::TokenId> ids_of_text(const models::Config& config,
                                                       const models::Tokenizer& tokenizer,
                                                       const std::string& text);
#endif

struct WindowFlags {
  std::int64_t windows = 128;
  std::int64_t window = 512;

  std::vector<CLI::Option*> add_to(CLI::App& app);
#if KVANT_PROGRAM_MODELS
  /// The first `windows` windows of the text, each of `window` ids (the last may be shorter).
  /// @throws Error invalid_file: no text, or too little for one window of 2 ids; as Tokenizer
  [[nodiscard]] std::vector<std::vector<models::TokenId>> read(const models::ModelFiles& files,
                                                               const std::string& text) const;
#endif
};

}  // namespace kvant::program
