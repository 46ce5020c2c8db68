// bitsandbytes' 4-bit checkpoints that differ from what kvant writes: those that are right all the
// same, and what is said of those that are not.

#include <filesystem>
#include <string>

#include "kvant/io/format_error.hpp"
#include "kvant/look/verify.hpp"
#include "look/stored_layers.hpp"
#include "support/catch.hpp"
#include "support/changed_model.hpp"

namespace {

using kvant::DType;
using kvant::io::Severity;
using kvant::look::verify_checkpoint;
using kvant::test::ChangedModel;
using kvant::test::has;

const std::string kNested = "checkpoints/bnb_nf4_double";
const std::string kWeight = "transformer.h.1.mlp.c_fc.weight";
const std::string kState = kWeight + ".quant_state.bitsandbytes__nf4";

/// The one finding of verify, an error.
std::string only_error(const ChangedModel& model) {
  const auto result = verify_checkpoint(model.write());
  INFO(to_text(result));
  CHECK(result.findings.size() == 1);
  CHECK(result.count(Severity::error) == 1);
  return result.findings.empty() ? "" : result.findings.front().message;
}

}  // namespace

TEST_CASE("verify: 4-bit codes may be called elements of any type (bnb_4bit_quant_storage)") {
  for (const DType dtype :
       {DType::bfloat16, DType::float16, DType::float32, DType::float64, DType::int8}) {
    INFO(to_string(dtype));
    ChangedModel model(kNested);
    model.config["quantization_config"]["bnb_4bit_quant_storage"] = to_string(dtype);
    const auto size = static_cast<std::uint64_t>(describe(dtype).bits / 8);
    for (auto& [name, tensor] : model.tensors) {
      if (!model.tensors.contains(name + ".quant_map")) continue;
      model.retype(name, dtype, {tensor.bytes.size() / size, 1});
    }
    // Among the packed bytes is what read as a number would be NaN.
    for (std::size_t i = 0; i < 8; ++i) model.tensors[kWeight].set<std::uint8_t>(8 + i, 0xFF);
    const auto result = verify_checkpoint(model.write());
    INFO(to_text(result));
    CHECK(result.findings.empty());
  }
}

TEST_CASE("verify: 4-bit layers of other sizes than config.json says") {
  ChangedModel model(kNested);
  std::string text = model.text(kState);
  text.replace(text.find("[160, 64]"), 9, "[64, 160]");
  model.set_text(kState, text);
  has(only_error(model), "n_inner is 160, but tensor \"" + kWeight + "\" has 64 outputs");
  text.replace(text.find("[64, 160]"), 9, "[160, 32]");
  model.set_text(kState, text);
  model.tensors[kWeight].bytes.resize(160 * 16);
  model.tensors[kWeight].shape = {160 * 16, 1};
  model.tensors[kWeight + ".absmax"].bytes.resize(80);
  model.tensors[kWeight + ".absmax"].shape = {80};
  has(only_error(model), "n_embd is 64, but tensor \"" + kWeight + "\" has 32 inputs");
}

TEST_CASE("verify: the description of a 4-bit weight is a text") {
  ChangedModel model(kNested);
  model.set_text(kState, model.text(kState) + (model.text(kState).size() % 2 == 0 ? "" : " "));
  model.retype(kState, DType::float16, {model.text(kState).size() / 2});
  has(only_error(model), "tensor \"" + kState + "\" is F16 [84], not U8");
}
