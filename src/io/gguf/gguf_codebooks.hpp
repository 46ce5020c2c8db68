#pragma once

// The small codebooks of GGUF's 4-bit types.

#include <array>

namespace kvant::io {

/// IQ4_NL, IQ4_XS.
inline constexpr std::array<float, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};
/// E2M1 times 2: MXFP4 and NVFP4, whose scales are halved for it.
inline constexpr std::array<float, 16> kDoubledE2M1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                                       0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace kvant::io
