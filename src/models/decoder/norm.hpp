#pragma once

// A row's norm, for whole rows and for the heads inside of one.

#include "kvant/models/block.hpp"

namespace kvant::models {

/// out [width] = norm(x [width]); x and out may be the same.
void normalize_row(const Config& config, const Norm& norm, const float* x, std::int64_t width,
                   float* out);

}  // namespace kvant::models
