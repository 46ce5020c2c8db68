#pragma once

// What a call throws.

#include <string>

#include "kvant/error.hpp"
#include "support/catch.hpp"

namespace kvant::test {

/// The code of the kvant::Error that body() throws, ErrorCode::ok where it throws none; *message,
/// if wanted, takes its text.
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

/// The text of the kvant::Error with this code that body() must throw.
template <class Body>
std::string message_of(Body body, ErrorCode code) {
  std::string message;
  CHECK(to_string(code_of(body, &message)) == std::string(to_string(code)));
  return message;
}

}  // namespace kvant::test
