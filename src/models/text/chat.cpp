#include "kvant/models/chat.hpp"

#include <algorithm>
#include <array>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

bool has(std::string_view jinja, std::string_view mark) {
  return jinja.find(mark) != std::string_view::npos;
}

/// Whether a template goes on with a new line behind a mark, be it in the same literal or the next.
bool breaks_line_behind(std::string_view jinja, std::string_view mark) {
  for (std::size_t at = jinja.find(mark); at != std::string_view::npos;
       at = jinja.find(mark, at + 1)) {
    std::string_view rest = jinja.substr(at + mark.size());
    rest.remove_prefix(std::min(rest.find_first_not_of("'\" +~"), rest.size()));
    if (rest.starts_with("\\n") || rest.starts_with("\n")) return true;
  }
  return false;
}

bool is_chatml(std::string_view jinja) {
  return has(jinja, "<|im_start|>") && !has(jinja, "<|im_sep|>") &&
         !has(jinja, "<end_of_utterance>");
}
bool is_llama2(std::string_view jinja) {
  return has(jinja, "[INST]") && has(jinja, "<<SYS>>");
}
bool is_llama3(std::string_view jinja) {
  return has(jinja, "<|start_header_id|>");
}
bool is_gemma(std::string_view jinja) {
  return has(jinja, "<start_of_turn>");
}
/// Later ones of Mistral have words for the system, or no space behind the mark.
bool is_mistral3(std::string_view jinja) {
  return has(jinja, "[INST] ") && !has(jinja, "[SYSTEM_PROMPT]");
}
bool is_mistral(std::string_view jinja) {
  return is_mistral3(jinja) && has(jinja, " [/INST]");
}
bool is_phi3(std::string_view jinja) {
  return has(jinja, "<|assistant|>") && breaks_line_behind(jinja, "<|end|>");
}
/// The user's words end with the token that ends a text.
bool is_zephyr(std::string_view jinja) {
  const std::size_t at = jinja.find("<|user|>");
  if (at == std::string_view::npos) return false;
  const std::string_view user = jinja.substr(at, jinja.find("%}", at) - at);
  return has(user, "eos_token") || has(user, "</s>");
}

/// How a form writes a message; {role} and {text} are replaced.
struct Form {
  ChatForm form;
  std::string_view name;
  bool (*recognizes)(std::string_view jinja);
  std::string_view message;    ///< any message
  std::string_view answer;     ///< where the assistant's begins
  std::string_view end;        ///< the token that ends an answer
  bool system_in_user;         ///< the system's words are put before the first user's
  std::string_view assistant;  ///< the assistant's role, if it has another name
  std::string_view reply;      ///< the assistant's message, if it is written in another way
};

// Those that recognize more come later.
constexpr std::array<Form, 8> kForms = {{
    {ChatForm::chatml, "chatml", is_chatml, "<|im_start|>{role}\n{text}<|im_end|>\n",
     "<|im_start|>assistant\n", "<|im_end|>", false, "assistant", ""},
    {ChatForm::llama2, "llama2", is_llama2, "", "", "</s>", true, "assistant", ""},
    {ChatForm::llama3, "llama3", is_llama3,
     "<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", false, "assistant", ""},
    {ChatForm::gemma, "gemma", is_gemma, "<start_of_turn>{role}\n{text}<end_of_turn>\n",
     "<start_of_turn>model\n", "<end_of_turn>", true, "model", ""},
    {ChatForm::phi3, "phi3", is_phi3, "<|{role}|>\n{text}<|end|>\n", "<|assistant|>\n", "<|end|>",
     false, "assistant", ""},
    {ChatForm::zephyr, "zephyr", is_zephyr, "<|{role}|>\n{text}</s>\n", "<|assistant|>\n", "</s>",
     false, "assistant", ""},
    {ChatForm::mistral, "mistral", is_mistral, "[INST] {text} [/INST]", "", "</s>", true,
     "assistant", " {text}</s>"},
    {ChatForm::mistral3, "mistral3", is_mistral3, "[INST] {text}[/INST]", "", "</s>", true,
     "assistant", " {text}</s>"},
}};

const Form& form_of(ChatForm form) {
  return *std::find_if(kForms.begin(), kForms.end(),
                       [&](const Form& each) { return each.form == form; });
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin));
}

std::string filled(std::string_view pattern, std::string_view role, std::string_view text) {
  std::string result;
  while (!pattern.empty()) {
    if (pattern.starts_with("{role}")) {
      result += role;
      pattern.remove_prefix(6);
    } else if (pattern.starts_with("{text}")) {
      result += text;
      pattern.remove_prefix(6);
    } else {
      result += pattern.front();
      pattern.remove_prefix(1);
    }
  }
  return result;
}

/// Llama 2: pairs of a question in brackets and its answer.
std::string write_llama2(std::span<const ChatMessage> messages) {
  std::string result;
  std::string system;
  for (const ChatMessage& message : messages) {
    if (message.role == "system") {
      system = "<<SYS>>\n" + message.content + "\n<</SYS>>\n\n";
    } else if (message.role == "user") {
      result += "[INST] " + trimmed(system + message.content) + " [/INST]";
      system.clear();
    } else {
      result += " " + trimmed(message.content) + " </s><s>";
    }
  }
  return result;
}

/// What a chatml template says where a conversation has no system message: a literal between the
/// marks, without expressions in it.
std::string default_system(std::string_view jinja) {
  constexpr std::string_view kBegin = "<|im_start|>system";
  constexpr std::string_view kEnd = "<|im_end|>";
  for (std::size_t at = jinja.find(kBegin); at != std::string_view::npos;
       at = jinja.find(kBegin, at + 1)) {
    std::string_view rest = jinja.substr(at + kBegin.size());
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with("\n")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    const std::string_view text = rest.substr(0, std::min(rest.find(kEnd), rest.size()));
    if (text.size() == rest.size() || text.empty()) continue;
    if (text.find_first_of("'\"{}\\") == std::string_view::npos) return std::string(text);
  }
  return {};
}

}  // namespace

std::string_view to_string(ChatForm form) noexcept {
  return form_of(form).name;
}

std::optional<ChatForm> chat_form_from_name(std::string_view name) noexcept {
  for (const Form& form : kForms) {
    if (form.name == name) return form.form;
  }
  return std::nullopt;
}

std::string chat_form_names() {
  std::string names;
  for (const Form& form : kForms) names.append(names.empty() ? "" : ", ").append(form.name);
  return names;
}

std::optional<ChatTemplate> recognize_chat_template(std::string_view jinja) {
  for (const Form& form : kForms) {
    if (!form.recognizes(jinja)) continue;
    ChatTemplate result;
    result.form = form.form;
    result.begins_with_bos = has(jinja, "bos_token");
    if (form.form == ChatForm::chatml) result.default_system = default_system(jinja);
    if (form.form == ChatForm::llama3 && has(jinja, "Cutting Knowledge Date: December 2023")) {
      result.system_start = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    }
    return result;
  }
  return std::nullopt;
}

std::string apply_chat_template(const ChatTemplate& chat, std::span<const ChatMessage> messages) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, "chat: " + what);
  };
  if (messages.empty()) refuse("there is no message");
  std::vector<ChatMessage> all;
  if ((!chat.default_system.empty() || !chat.system_start.empty()) &&
      messages.front().role != "system") {
    all.push_back({"system", chat.default_system});
  }
  for (const ChatMessage& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      refuse("the role \"" + message.role.substr(0, 40) +
             "\" is not one of system, user, assistant");
    }
    all.push_back(message);
  }
  const Form& form = form_of(chat.form);
  if (form.form == ChatForm::llama2) return write_llama2(all);
  std::string result;
  std::string before;  // the system's words, where they go into the user's
  for (const ChatMessage& message : all) {
    if (form.system_in_user && message.role == "system") {
      before = message.content + "\n\n";
      continue;
    }
    const std::string_view role = message.role == "assistant" ? form.assistant : message.role;
    const bool trims = form.form == ChatForm::llama3 || form.form == ChatForm::gemma;
    std::string text = before + message.content;
    if (trims) text = trimmed(text);
    if (message.role == "system") text = chat.system_start + text;
    const bool replies = message.role == "assistant" && !form.reply.empty();
    result += filled(replies ? form.reply : form.message, role, text);
    before.clear();
  }
  return result.append(form.answer);
}

std::vector<std::string_view> chat_end_tokens(ChatForm form) {
  return {form_of(form).end};
}

}  // namespace kvant::models
