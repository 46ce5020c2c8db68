#pragma once

// Models and a text as words of a command line.

#include <string>

#include "support/folders.hpp"

namespace kvant::test {

inline const std::string kTinyModel = (kTinyCode / "model").string();
inline const std::string kTinyText = (kTinyCode / "eval.txt").string();
inline const std::string kFp32Model = kFp32.string();

}  // namespace kvant::test
