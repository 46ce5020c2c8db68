#pragma once

// --chat: a question in the form that a model's template has.

#include <cstdint>
#include <vector>

#include "kvant/models/model_files.hpp"
#include "run_options.hpp"

namespace kvant::program {

/// @param end_ids gets the tokens that end an answer
/// @throws Error unsupported: there is no template, or none of a known form, and --template names
///         none
[[nodiscard]] std::vector<models::TokenId> ids_of_chat(const models::ModelFiles& files,
                                                       const models::Tokenizer& tokenizer,
                                                       const RunOptions& options,
                                                       std::vector<std::int64_t>& end_ids);

}  // namespace kvant::program
