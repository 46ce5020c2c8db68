#pragma once

// What a call throws.

#include <string>

#include "kvant/error.hpp"

namespace kvant::test {

/// The code of the kvant::Error that body() throws, ErrorCode::ok where it throws none; *message, if
/// wanted, takes its text.
template <class Body>
ErrorCode code_of(Body body, std::string* message = nullptr) {
  try {
    body();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return ErrorCode::ok;
}

}  // namespace kvant::test
