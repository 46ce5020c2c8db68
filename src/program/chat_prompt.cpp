// Part of the program where kvant::models is.
#if KVANT_PROGRAM_MODELS
#include "chat_prompt.hpp"

#include <algorithm>
#include <string>

#include "kvant/error.hpp"

namespace kvant::program {

using models::TokenId;

namespace {

/// Whether what ends an answer is a token: a template may have another one in its place.
bool knows_ends(const models::Tokenizer& tokenizer, models::ChatForm form) {
  const std::vector<std::string_view> ends = models::chat_end_tokens(form);
  return std::any_of(ends.begin(), ends.end(),
                     [&](std::string_view end) { return tokenizer.find(end).has_value(); });
}

}  // namespace

std::vector<TokenId> ids_of_chat(const models::ModelFiles& files,
                                 const models::Tokenizer& tokenizer, const RunOptions& options,
                                 std::vector<std::int64_t>& end_ids) {
  auto form = models::recognize_chat_template(files.chat_template());
  if (form && !options.form && !knows_ends(tokenizer, form->form)) {
    const std::string name(models::to_string(form->form));
    throw Error(ErrorCode::unsupported,
                files.path().string() + ": its chat template looks like " + name +
                    ", which ends answers with " +
                    std::string(models::chat_end_tokens(form->form).front()) +
                    ", none of its tokens; --template " + name + " takes it all the same");
  }
  if (options.form && (!form || form->form != *options.form)) {
    form = models::ChatTemplate{*options.form, !tokenizer.prefix().empty(), {}, {}};
  }
  if (!form) {
    throw Error(ErrorCode::unsupported,
                files.path().string() +
                    (files.chat_template().empty() ? " has no chat template"
                                                   : ": its chat template is of no known form") +
                    "; say which one it is with --template (" + models::chat_form_names() + ")");
  }
  std::vector<models::ChatMessage> messages;
  if (options.system) messages.push_back({"system", *options.system});
  messages.push_back({"user", *options.chat});
  std::vector<TokenId> ids;
  if (form->begins_with_bos) {
    ids = tokenizer.prefix();
    if (ids.empty() && files.config().bos_token_id >= 0) {
      ids = {static_cast<TokenId>(files.config().bos_token_id)};
    }
  }
  const std::vector<TokenId> text = tokenizer.encode(apply_chat_template(*form, messages));
  ids.insert(ids.end(), text.begin(), text.end());
  for (const std::string_view end : models::chat_end_tokens(form->form)) {
    if (const auto id = tokenizer.find(end)) end_ids.push_back(*id);
  }
  return ids;
}

}  // namespace kvant::program
#endif
