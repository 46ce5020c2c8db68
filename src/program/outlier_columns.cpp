#include "outlier_columns.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <unistd.h>

#include "calibration_windows.hpp"
#include "interrupt.hpp"
#include "kvant/context.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/models/calibration.hpp"
#include "kvant/models/config.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/models/tokenizer.hpp"
#include "ranks.hpp"
#endif

namespace kvant::program {

OutlierColumns read_outlier_columns(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ErrorCode::io, file + ": cannot be read");
  std::set<std::string> names;
  std::string twice_named;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    if (depth == 1 && event == nlohmann::json::parse_event_t::key &&
        !names.insert(value.get<std::string>()).second) {
      twice_named = value.get<std::string>();
    }
    return true;
  };
  const nlohmann::json json = nlohmann::json::parse(stream, watch, false);
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_file,
                file + ": " + what +
                    "; wanted is an object of layer names and lists of columns, like "
                    "{\"transformer.h.0.attn.c_attn\": [3, 17]}");
  };
  if (!json.is_object()) refuse("not a JSON object");
  if (!twice_named.empty()) refuse("\"" + twice_named.substr(0, 80) + "\" is there twice");
  OutlierColumns result;
  for (const auto& [layer, columns] : json.items()) {
    if (!columns.is_array()) refuse("the value of \"" + layer.substr(0, 80) + "\" is not a list");
    std::vector<std::int64_t>& list = result[layer];
    for (const nlohmann::json& column : columns) {
      if (!column.is_number_unsigned() || column.get<std::uint64_t>() > INT64_MAX) {
        refuse("\"" + layer.substr(0, 80) + "\" holds " + column.dump().substr(0, 40) +
               ", which is not a column");
      }
      list.push_back(column.get<std::int64_t>());
    }
    std::sort(list.begin(), list.end());
    if (const auto twice = std::adjacent_find(list.begin(), list.end()); twice != list.end()) {
      refuse("\"" + layer.substr(0, 80) + "\" holds column " + std::to_string(*twice) + " twice");
    }
  }
  return result;
}

#if KVANT_PROGRAM_MODELS

OutlierColumns find_outlier_columns(const std::string& model, const std::string& text_file,
                                    float threshold, int threads, bool quiet) {
  const std::filesystem::path folder(model);
  const models::ModelFiles files(folder);
  const models::Config& config = files.config();
  const models::Tokenizer tokenizer = files.tokenizer();
  const std::string words = read_calibration_text(text_file);
  // As texts begin for this model.
  std::vector<models::TokenId> ids = tokenizer.prefix();
  if (config.texts_begin_with_bos) ids = {static_cast<models::TokenId>(config.bos())};
  const std::vector<models::TokenId> text = tokenizer.encode(words);
  ids.insert(ids.end(), text.begin(), text.end());
  Context context(ContextOptions{.threads = threads_of_rank(threads)});
  const bool terminal = !quiet && ::isatty(STDERR_FILENO) != 0;
  const auto progress = [&](std::int64_t block, std::int64_t count) {
    if (interrupted()) throw Error(ErrorCode::cancelled, "stopped; nothing was written");
    if (terminal) {
      std::fprintf(stderr, "\r\033[Kcalibrating block %lld of %lld",
                   static_cast<long long>(block + 1), static_cast<long long>(count));
    }
  };
  OutlierColumns result =
      models::find_outlier_columns(context, folder, config, ids, threshold, progress, job_ranks());
  if (terminal) std::fprintf(stderr, "\r\033[K");
  return result;
}

#else

OutlierColumns find_outlier_columns(const std::string&, const std::string&, float, int, bool) {
  throw Error(ErrorCode::unsupported,
              "--calibrate needs kvant::models, which this program was built without; "
              "give a list instead (--keep-outliers)");
}

#endif

}  // namespace kvant::program
