#pragma once

// The small codebooks of GGUF's 4-bit types.

namespace kvant::io {

/// IQ4_NL, IQ4_XS.
inline constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};
/// E2M1 times 2: MXFP4 and NVFP4, whose scales are halved for it.
inline constexpr float kDoubledE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace kvant::io
