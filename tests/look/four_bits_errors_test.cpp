// bitsandbytes' 4-bit checkpoints that differ from what kvant writes: those that are right all the
// same, and what is said of those that are not.

#include <cmath>
#include <filesystem>
#include <string>

#include "kvant/error.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/verify.hpp"
#include "look/stored_layers.hpp"
#include "support/catch.hpp"
#include "support/changed_model.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::DType;
using kvant::io::Severity;
using kvant::look::verify_checkpoint;
using kvant::test::ChangedModel;
using kvant::test::has;

const std::string kNested = "checkpoints/bnb_nf4_double";
const std::string kWeight = "transformer.h.1.mlp.c_fc.weight";
const std::string kState = kWeight + ".quant_state.bitsandbytes__nf4";

const std::string kPlain = "checkpoints/bnb_fp4";

/// What dequantizing says.
std::string refused(const ChangedModel& model) {
  const kvant::test::TempFolder folder;
  const auto path = model.write();
  std::string message;
  CHECK(kvant::test::code_of([&] { kvant::io::dequantize_checkpoint(path, folder.path() / "out"); },
                             &message) != kvant::ErrorCode::ok);
  return message;
}

/// The one finding of verify, a warning.
std::string only_warning(const ChangedModel& model) {
  const auto result = verify_checkpoint(model.write());
  INFO(to_text(result));
  CHECK(result.findings.size() == 1);
  CHECK(result.ok());
  return result.findings.empty() ? "" : result.findings.front().message;
}

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

TEST_CASE("4-bit weights without a description, with two, or with one that is called otherwise") {
  ChangedModel model(kNested);
  const std::string text = model.text(kState);
  model.tensors.erase(kState);
  const std::string wanted = "their quant_state is missing: the tensor \"" + kState + "\"";
  has(only_error(model), "tensor \"" + kWeight + "\" is U8 [5120, 1] with absmax and quant_map");
  has(only_error(model), wanted);
  has(refused(model), wanted);
  const std::string other = kWeight + ".quant_state.bitsandbytes__fp4";
  model.set_text(other, text);
  has(only_error(model), "tensor \"" + other + "\" is called so, but its quant_type is nf4");
  model.set_text(kState, text);
  const std::string two = "has two descriptions, \"" + kState + "\" and \"" + other + "\"";
  has(only_error(model), two);
  has(refused(model), two);
}

TEST_CASE("4-bit weights: absmax below 0, codes of NaN, a byte too many") {
  ChangedModel model(kPlain);
  model.tensors[kWeight + ".absmax"].set<float>(3, -0.5f);
  model.tensors[kWeight + ".absmax"].set<float>(4, -0.25f);
  has(only_error(model), "\"" + kWeight + ".absmax\" holds 2 values below 0, which no absmax is");
  model = ChangedModel(kNested);
  model.tensors[kWeight + ".nested_absmax"].set<float>(0, -0.5f);
  has(only_error(model), ".nested_absmax\" holds 1 value below 0");
  model = ChangedModel(kNested);
  model.tensors[kWeight + ".quant_map"].set<float>(9, std::nanf(""));
  has(only_error(model), ".quant_map\" holds 1 NaN and 0 infinite values");
  has(refused(model), ".quant_map\", the values of codes, holds 1 NaN and 0 infinite values");
  model = ChangedModel(kNested);
  model.tensors[kWeight].bytes.push_back(std::byte{0});
  model.tensors[kWeight].shape = {5121, 1};
  has(only_error(model), "5121 bytes; its quant_state says [160, 64], 5120 bytes");
  has(refused(model), "has 5121 bytes, 5120 are needed for 10240 codes");
}

TEST_CASE("verify: what config.json says of 4-bit layers, and no layer's description does") {
  ChangedModel model(kNested);
  model.config["quantization_config"]["bnb_4bit_quant_type"] = "fp4";
  has(only_warning(model), "bnb_4bit_quant_type is \"fp4\", which no layer's quant_state says");
  model = ChangedModel(kNested);
  model.config["quantization_config"]["bnb_4bit_use_double_quant"] = false;
  has(only_warning(model), "bnb_4bit_use_double_quant is false, but all layers have");
  model = ChangedModel(kPlain);
  model.config["quantization_config"]["bnb_4bit_use_double_quant"] = true;
  has(only_warning(model), "bnb_4bit_use_double_quant is true, but no layer has");
}

TEST_CASE("verify: bits and groups that no layer of a GPTQ model has, an order that is nowhere") {
  const std::string symmetric = "gptq_awq/gptq_4bit_g32_sym";
  ChangedModel model(symmetric);
  auto& section = model.config["quantization_config"];
  CHECK(verify_checkpoint(model.write()).findings.empty());
  section["bits"] = 8;
  has(only_error(model), "bits is 8, but layer \"model.layers.0.mlp.down_proj\" has codes of 4");
  section["dynamic"]["+:.*down_proj"]["bits"] = 4;  // some layers may have others
  CHECK(verify_checkpoint(model.write()).findings.empty());
  section["bits"] = 4;
  section.erase("dynamic");
  for (const int size : {64, -1}) {
    section["group_size"] = size;
    has(only_error(model), "group_size is " + std::to_string(size) +
                               ", but layer \"model.layers.0.mlp.down_proj\" has ");
  }
  section["group_size"] = 32;
  section["desc_act"] = true;
  std::erase_if(model.tensors, [](const auto& each) { return each.first.ends_with(".g_idx"); });
  has(only_warning(model), "desc_act is true, but layer ");
}

TEST_CASE("GPTQ: codes of fewer inputs than the index has are blamed, not the index") {
  ChangedModel model("gptq_awq/gptq_4bit_g32_sym");
  auto& codes = model.tensors["model.layers.0.mlp.up_proj.qweight"];
  const std::uint64_t outputs = codes.shape[1];
  codes.shape[0] -= 1;
  codes.bytes.resize(codes.bytes.size() - outputs * 4);
  const std::string wanted =
      "tensor \"model.layers.0.mlp.up_proj.qweight\" is I32 [7, " + std::to_string(outputs) +
      "], codes of 4 bits for 56 inputs; \"model.layers.0.mlp.up_proj.g_idx\" is of 64";
  has(only_error(model), wanted);
  has(refused(model), wanted);
}
