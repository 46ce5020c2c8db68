// Conversations as text, in the words that transformers' templates write.

#include <array>
#include <string>

#include "kvant/models/chat.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"

namespace {

using namespace kvant::models;

const std::array<ChatMessage, 2> kTalk = {{{"system", "Be brief."}, {"user", " Hi {role}! "}}};

std::string written(ChatForm form, std::span<const ChatMessage> messages = kTalk) {
  return apply_chat_template({form, false, {}}, messages);
}

}  // namespace

TEST_CASE("chat: the common forms") {
  CHECK(written(ChatForm::chatml) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi {role}! <|im_end|>\n"
        "<|im_start|>assistant\n");
  CHECK(written(ChatForm::llama2) == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi {role}! [/INST]");
  CHECK(written(ChatForm::llama3) ==
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi {role}!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(written(ChatForm::zephyr) ==
        "<|system|>\nBe brief.</s>\n<|user|>\n Hi {role}! </s>\n<|assistant|>\n");
  CHECK(written(ChatForm::phi3) ==
        "<|system|>\nBe brief.<|end|>\n<|user|>\n Hi {role}! <|end|>\n<|assistant|>\n");
  CHECK(written(ChatForm::gemma) ==
        "<start_of_turn>user\nBe brief.\n\n Hi {role}!<end_of_turn>\n<start_of_turn>model\n");
  const std::array<ChatMessage, 3> answered = {{{"user", "a"}, {"assistant", "b"}, {"user", "c"}}};
  CHECK(written(ChatForm::gemma, answered) ==
        "<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
        "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n");
  CHECK(written(ChatForm::llama2, answered) == "[INST] a [/INST] b </s><s>[INST] c [/INST]");
  CHECK(written(ChatForm::mistral, answered) == "[INST] a [/INST] b</s>[INST] c [/INST]");
  CHECK(written(ChatForm::mistral3) == "[INST] Be brief.\n\n Hi {role}! [/INST]");
  const std::array<ChatMessage, 1> odd = {{{"tool", "x"}}};
  CHECK(kvant::test::code_of([&] { (void)written(ChatForm::chatml, odd); }) ==
        kvant::ErrorCode::invalid_argument);
  CHECK(kvant::test::code_of([&] { (void)written(ChatForm::chatml, {}); }) ==
        kvant::ErrorCode::invalid_argument);
}

TEST_CASE("chat: templates are recognized by their marks") {
  const auto chatml = recognize_chat_template(
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
      "{{ '<|im_start|>system\\nYou are a helpful AI assistant.<|im_end|>\\n' }}{% endif %}"
      "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
      "{% endfor %}");
  REQUIRE(chatml.has_value());
  CHECK(chatml->form == ChatForm::chatml);
  CHECK(chatml->default_system == "You are a helpful AI assistant.");
  CHECK_FALSE(chatml->begins_with_bos);
  const std::array<ChatMessage, 1> hello = {{{"user", "Hi"}}};
  CHECK(apply_chat_template(*chatml, hello) ==
        "<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  const auto llama3 = recognize_chat_template("{{ bos_token }}<|start_header_id|>");
  REQUIRE(llama3.has_value());
  CHECK(llama3->form == ChatForm::llama3);
  CHECK(llama3->begins_with_bos);
  CHECK(recognize_chat_template("'<|user|>\\n' + eos_token")->form == ChatForm::zephyr);
  CHECK(
      recognize_chat_template("'<|user|>\\n' + x + '<|end|>' + '\\n' + '<|assistant|>\\n'")->form ==
      ChatForm::phi3);
  CHECK(recognize_chat_template("'[INST] <<SYS>>\\n' + x + ' [/INST]'")->form == ChatForm::llama2);
  CHECK(recognize_chat_template("'[INST] ' + x + ' [/INST]'")->form == ChatForm::mistral);
  CHECK(recognize_chat_template("\"[INST] \" + x + \"[/INST]\"")->form == ChatForm::mistral3);
  // What has a form's marks and writes otherwise.
  for (const char* other :
       {"{{ messages }}",
        // Phi 4, and its small one
        "{{'<|im_start|>user<|im_sep|>' + x + '<|im_end|>'}}",
        "{{ '<|' + role + '|>' + x + '<|end|>' }}{{ '<|assistant|>' }}",
        // OLMo 2, whose user's messages end with the line
        "{% if a %}{{ '<|user|>\\n' + x + '\\n' }}{% else %}{{ '<|assistant|>\\n' + x + eos_token "
        "}}",
        // Mistral's later ones
        "\"[INST]\" + x + \"[/INST]\"",
        "'[SYSTEM_PROMPT] ' + s + '[/SYSTEM_PROMPT]' '[INST] ' + x + '[/INST]'"}) {
    INFO(other);
    CHECK_FALSE(recognize_chat_template(other).has_value());
  }
  for (const ChatForm form :
       {ChatForm::chatml, ChatForm::llama2, ChatForm::llama3, ChatForm::zephyr, ChatForm::phi3,
        ChatForm::gemma, ChatForm::mistral, ChatForm::mistral3}) {
    CHECK(chat_form_from_name(to_string(form)) == form);
    CHECK(chat_end_tokens(form).size() == 1);
  }
}

TEST_CASE("chat: Llama 3.1's system message always has its dates") {
  const auto chat = recognize_chat_template(
      "{{- bos_token }}{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}"
      "{{- \"Cutting Knowledge Date: December 2023\\n\" }}{{- \"Today Date: \" + date_string }}");
  REQUIRE(chat.has_value());
  const std::array<ChatMessage, 1> hello = {{{"user", "Hi"}}};
  const std::string start =
      "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\n";
  const std::string behind = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n";
  const std::string answer = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
  CHECK(apply_chat_template(*chat, hello) == start + behind + "Hi" + answer);
  CHECK(apply_chat_template(*chat, kTalk) == start + "Be brief." + behind + "Hi {role}!" + answer);
}
