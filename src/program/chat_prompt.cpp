// Part of the program where kvant::models is.
#if KVANT_PROGRAM_MODELS
#include "chat_prompt.hpp"

#include <string>

#include "kvant/error.hpp"

namespace kvant::program {

using models::TokenId;

std::vector<TokenId> ids_of_chat(const models::ModelFiles& files,
                                 const models::Tokenizer& tokenizer, const RunOptions& options,
                                 std::vector<std::int64_t>& end_ids) {
  auto form = models::recognize_chat_template(files.chat_template());
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
  const std::vector<std::string_view> ends = models::chat_end_tokens(form->form);
  for (const std::string_view end : ends) {
    if (const auto id = tokenizer.find(end)) end_ids.push_back(*id);
  }
  if (end_ids.empty() && !options.form) {  // a template may have another one in its place
    const std::string name(models::to_string(form->form));
    throw Error(ErrorCode::unsupported,
                files.path().string() + ": its chat template looks like " + name +
                    ", which ends answers with " + std::string(ends.front()) +
                    ", none of its tokens; --template " + name + " takes it all the same");
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
  return ids;
}

}  // namespace kvant::program
#endif
