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
  CHECK(recognize_chat_template("'<|user|>\\n' '<|end|>'")->form == ChatForm::phi3);
  CHECK_FALSE(recognize_chat_template("{{ messages }}").has_value());
  for (const ChatForm form : {ChatForm::chatml, ChatForm::llama2, ChatForm::llama3,
                              ChatForm::zephyr, ChatForm::phi3, ChatForm::gemma}) {
    CHECK(chat_form_from_name(to_string(form)) == form);
    CHECK(chat_end_tokens(form).size() == 1);
  }
}
