#pragma once

/// @file
/// Converting a quantized model folder from one form to another, without loss: codes, zero points
/// and scales stay what they are, bit for bit; only where they lie changes.
///
///     kvant::io::convert_checkpoint("model-gptq", "model-awq", {.to = kvant::io::GroupForm::awq});

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/io/quantize_checkpoint.hpp"

namespace kvant::io {

/// Forms of codes in groups, with a scale and a zero point each.
enum class GroupForm : std::uint8_t {
  gptq,     ///< GPTQ version 2: zero points as they are
  gptq_v1,  ///< GPTQ version 1: zero points less one
  awq,      ///< AWQ's "gemm"
};

/// "gptq", "gptq-v1" or "awq"; nothing for other names.
[[nodiscard]] KVANT_API std::optional<GroupForm> group_form_from_name(
    std::string_view name) noexcept;

/// How convert_checkpoint goes about it.
struct ConvertCheckpointOptions {
  GroupForm to = GroupForm::gptq;
  bool dry_run = false;  ///< plan and check; write nothing
  JobOptions job = {};
};

/// From GPTQ (version 1 or 2) or AWQ (gemm or gemv) to one of GroupForm. All other tensors and
/// files go along; config.json gets the quantization_config of the new form. Memory is a few
/// megabytes a thread and the scales of one layer (of AWQ's gemv form: one tensor).
/// @throws as dequantize_checkpoint; Error unsupported: what the new form cannot hold, by the name
///         of the layer (AWQ: other than 4 bits, an activation order, groups of several sizes, a
///         zero point of 16; GPTQ version 1: a zero point of 0), or a layer in another form
KVANT_API CheckpointSummary convert_checkpoint(const std::filesystem::path& model,
                                               const std::filesystem::path& output,
                                               const ConvertCheckpointOptions& options);

}  // namespace kvant::io
