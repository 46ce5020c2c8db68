#pragma once

// Words that the table and the page of an ActivationReport share.

#include <cstdint>
#include <string>
#include <vector>

#include "kvant/look/activations.hpp"

namespace kvant::look {

/// "12.5 %"; "-" of nothing.
[[nodiscard]] std::string share_text(std::int64_t part, std::int64_t whole);
/// Plain rounding's SQNR.
[[nodiscard]] std::string plain_text(const std::vector<MethodEstimate>& methods);
/// The method to take, and its gain over plain rounding: "gptq +5.1".
[[nodiscard]] std::string gain_text(const std::vector<MethodEstimate>& methods);
/// What the columns mean and by which rule a method is taken, a paragraph each.
[[nodiscard]] std::vector<std::string> explanations(const ActivationReport& report);

}  // namespace kvant::look
