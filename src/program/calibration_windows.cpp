#include "calibration_windows.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "kvant/error.hpp"
#include "kvant/io/text_file.hpp"
#if KVANT_PROGRAM_MODELS
#include "kvant/models/tokenizer.hpp"
#endif

namespace kvant::program {

std::string read_calibration_text(const std::string& file) {
  std::string text = io::read_text_file(file);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Error(ErrorCode::invalid_file,
                file + ": holds no text; what layers read shows only where a model reads some");
  }
  if (text.find('\0') != std::string::npos) {
    throw Error(ErrorCode::invalid_file, file + ": is no text: it holds bytes of zero");
  }
  return text;
}

std::vector<CLI::Option*> WindowFlags::add_to(CLI::App& app) {
  return {
      app.add_option("--windows", windows,
                     "how many windows of the text are run (" + std::to_string(windows) + ")")
          ->type_name("N")
          ->check(CLI::PositiveNumber),
      app.add_option("--window", window,
                     "tokens of a window (" + std::to_string(window) + ", or the model's limit)")
          ->type_name("N")
          ->check(CLI::PositiveNumber)};
}

#if KVANT_PROGRAM_MODELS

std::vector<models::TokenId> start_of_text(const models::Config& config,
                                           const models::Tokenizer& tokenizer) {
  if (config.texts_begin_with_bos) return {static_cast<models::TokenId>(config.bos())};
  return tokenizer.prefix();
}

std::vector<models::TokenId> ids_of_text(const models::Config& config,
                                         const models::Tokenizer& tokenizer,
                                         const std::string& text) {
  std::vector<models::TokenId> ids = start_of_text(config, tokenizer);
  const std::vector<models::TokenId> encoded = tokenizer.encode(text);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
  return ids;
}

std::vector<std::vector<models::TokenId>> WindowFlags::read(const models::ModelFiles& files,
                                                            const std::string& text) const {
  const models::Config& config = files.config();
  const models::Tokenizer tokenizer = files.tokenizer();
  const std::string words = read_calibration_text(text);
  const std::vector<models::TokenId> start = start_of_text(config, tokenizer);
  const std::vector<models::TokenId> ids = tokenizer.encode(words);
  if (ids.size() < 2) {
    throw Error(ErrorCode::invalid_file,
                text + ": is " + std::to_string(ids.size()) +
                    " tokens for this model; calibration wants thousands of text like those that "
                    "the model will see");
  }
  const auto length = static_cast<std::size_t>(std::min(window, config.position_limit()));
  if (length <= start.size()) {
    throw Error(ErrorCode::invalid_argument,
                "a window of " + std::to_string(length) + " tokens has no room for text");
  }
  const std::size_t room = length - start.size();
  std::vector<std::vector<models::TokenId>> result;
  for (std::size_t at = 0; at < ids.size(); at += room) {
    if (static_cast<std::int64_t>(result.size()) == windows) break;
    std::vector<models::TokenId> one = start;
    one.insert(one.end(), ids.begin() + static_cast<std::ptrdiff_t>(at),
               ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), at + room)));
    result.push_back(std::move(one));
  }
  return result;
}

#endif

}  // namespace kvant::program
