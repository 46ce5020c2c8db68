#pragma once

// Where the folders are that tests read: golden data, and the models among them.

#include <filesystem>

namespace kvant::test {

inline const std::filesystem::path kData = KVANT_TEST_DATA;
inline const std::filesystem::path kFp32 = kData / "checkpoints/fp32";
inline const std::filesystem::path kFamilies = kData / "families";
inline const std::filesystem::path kEncoders = kData / "encoders";

/// A small trained model: its folder model/, a text, and what it makes of it.
inline const std::filesystem::path kTinyCode =
    std::filesystem::path(KVANT_SOURCE_DIR) / "examples/models/tiny-code-model";

}  // namespace kvant::test
