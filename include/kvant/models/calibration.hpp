#pragma once

/// @file
/// Which input features of each linear layer are outliers, found by running a model in float.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/tokenizer.hpp"
#include "kvant/ranks.hpp"

namespace kvant::models {

/// Module name, as the checkpoint has it, -> ascending input columns.
using OutlierColumns = std::map<std::string, std::vector<std::int64_t>>;

/// Runs one window of ids through the model in float and notes the columns whose inputs reached
/// |x| >= threshold. One block is in memory at a time.
/// @param ids  cut to n_positions; empty: some fixed pseudo-random ones
/// @param progress  called before each block with its index and the number of blocks; may be empty
/// @param ranks  the processes that share the work, as in LoadOptions; each has the whole result
/// @throws Error as load_model
KVANT_API OutlierColumns find_outlier_columns(
    Context& context, const std::filesystem::path& folder, const Config& config,
    const std::vector<TokenId>& ids, float threshold,
    const std::function<void(std::int64_t, std::int64_t)>& progress = {}, Ranks* ranks = nullptr);

}  // namespace kvant::models
