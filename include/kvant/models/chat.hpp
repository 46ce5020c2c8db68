#pragma once

/// @file
/// Chat templates: the common forms of a conversation as one text. Templates are programs in Jinja;
/// the forms that most models use are recognized by their marks and written directly.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::models {

/// The known forms.
enum class ChatForm : std::uint8_t {
  chatml,    ///< <|im_start|>user ... <|im_end|> (Qwen, SmolLM)
  llama2,    ///< `[INST] <<SYS>> ... <</SYS>> ... [/INST]`
  llama3,    ///< <|start_header_id|>user<|end_header_id|> ... <|eot_id|>
  zephyr,    ///< `<|user|> ... </s>`
  phi3,      ///< <|user|> ... <|end|>
  gemma,     ///< `<start_of_turn>user ... <end_of_turn>`
  mistral,   ///< [INST] ... [/INST] (Mistral 7B 0.1 and 0.2)
  mistral3,  ///< [INST] ...[/INST] (Mistral 7B 0.3)
};

/// A form, and what a model's own template adds to it.
struct ChatTemplate {
  ChatForm form = ChatForm::chatml;
  bool begins_with_bos = false;     ///< the model's bos token comes first (it is not in the text)
  std::string default_system = {};  ///< the system message where a conversation has none
  /// What every system message begins with, which is then always there: the dates of Llama 3.1 and
  /// later, as the template has them where it is told no other.
  std::string system_start = {};
};

/// Who says what.
struct ChatMessage {
  std::string role;  ///< "system", "user", "assistant"
  std::string content;
};

/// "chatml", "llama2", ...
[[nodiscard]] KVANT_API std::string_view to_string(ChatForm form) noexcept;
/// The form of a name; nothing: there is none.
[[nodiscard]] KVANT_API std::optional<ChatForm> chat_form_from_name(std::string_view name) noexcept;
/// "chatml, llama2, ...", for messages.
[[nodiscard]] KVANT_API std::string chat_form_names();

/// What a template in Jinja does, by its marks; nothing for a form that is not known, also where it
/// has the marks of one and breaks lines or ends messages in another way (Phi 4, OLMo 2).
[[nodiscard]] KVANT_API std::optional<ChatTemplate> recognize_chat_template(std::string_view jinja);

/// The conversation as text, up to where the assistant is to answer.
/// @throws Error invalid_argument: a role that is not one of the three, no message
[[nodiscard]] KVANT_API std::string apply_chat_template(const ChatTemplate& form,
                                                        std::span<const ChatMessage> messages);

/// The tokens that end an answer in this form, as they are spelled.
[[nodiscard]] KVANT_API std::vector<std::string_view> chat_end_tokens(ChatForm form);

}  // namespace kvant::models
