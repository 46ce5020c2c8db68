#pragma once

/// @file
/// The one place where the version is written; CMake reads it from here.

#define KVANT_VERSION_MAJOR 0
#define KVANT_VERSION_MINOR 1
#define KVANT_VERSION_PATCH 0
#define KVANT_VERSION_STRING "0.1.0"
