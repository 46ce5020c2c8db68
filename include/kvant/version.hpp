#pragma once

/// @file
/// The one place where the version is written; CMake reads it from here.

/// @{
/// The version, for the preprocessor.
#define KVANT_VERSION_MAJOR 0
#define KVANT_VERSION_MINOR 2
#define KVANT_VERSION_PATCH 0
#define KVANT_VERSION_STRING "0.2.0"
/// @}
