#pragma once

/// @file
/// Export macro and the build-wide choices a header may ask about.

#if defined(_WIN32)
#if defined(KVANT_SHARED)
#if defined(KVANT_BUILDING)
#define KVANT_API __declspec(dllexport)
#else
#define KVANT_API __declspec(dllimport)
#endif
#else
#define KVANT_API
#endif
#elif defined(__GNUC__)
#define KVANT_API __attribute__((visibility("default")))
#else
#define KVANT_API
#endif

#if defined(__cplusplus) && __cplusplus < 202002L && !defined(_MSC_VER)
#error \
    "kvant needs C++20: compile with -std=c++20, or CMake's target_compile_features(... cxx_std_20)"
#include <kvant_needs_cxx20>  // no such file: nothing of what would follow is worth reading
#endif

#if defined(__FAST_MATH__)
#error \
    "kvant's rounding rules do not survive -ffast-math: compile the files that include it without"
#endif
