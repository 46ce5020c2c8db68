#pragma once

// verify_checkpoint and report_checkpoint of GGUF files.

#include <cstdint>
#include <filesystem>

#include "kvant/look/report.hpp"
#include "kvant/look/verify.hpp"

namespace kvant::look {

/// Elements that are expanded at a time.
inline constexpr std::int64_t kSliceElements = 1 << 18;

[[nodiscard]] VerifyResult verify_gguf(const std::filesystem::path& path);

/// @throws Error unsupported: only one of the two is a GGUF file
[[nodiscard]] CheckpointReport report_gguf(const std::filesystem::path& model,
                                           const std::filesystem::path& quantized,
                                           const ReportOptions& options);

}  // namespace kvant::look
