// kvant convert between GPTQ and AWQ: codes, zero points and scales bit for bit, back and forth,
// and what a form cannot hold.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/float16.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/convert_checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/look/report.hpp"
#include "kvant/look/verify.hpp"
#include "look/stored_layers.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::ErrorCode;
using kvant::float16;
using kvant::io::Checkpoint;
using kvant::io::GroupForm;
using kvant::test::CheckpointBuilder;
using kvant::test::data_path;
using kvant::test::has;
using kvant::test::TempFolder;

const std::vector<GroupForm> kForms = {GroupForm::gptq, GroupForm::gptq_v1, GroupForm::awq};

/// A model without the files that are no part of it.
fs::path copied(const TempFolder& folder, const std::string& name) {
  const fs::path model = folder.path() / fs::path(name).filename();
  fs::create_directory(model);
  for (const char* part : {"config.json", "model.safetensors"}) {
    fs::copy(fs::path(data_path(name)) / part, model / part);
  }
  return model;
}

nlohmann::json section_of(const fs::path& model) {
  std::ifstream config(model / "config.json");
  return nlohmann::json::parse(config).at("quantization_config");
}

/// Codes, scales and zero points of all layers, as LayerReader gives them.
struct Contents {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  bool operator==(const Contents&) const = default;
};

Contents contents_of(const fs::path& model) {
  const Checkpoint file(model);
  Contents all;
  for (const auto& layer : kvant::io::find_linear_layers(file, kvant::io::model_hints_of(model))) {
    if (!layer.quantized()) continue;
    const kvant::io::LayerReader reader(file, layer);
    const auto codes = reader.codes();
    REQUIRE(codes);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(layer.elements()));
    reader.read_codes(0, layer.outputs, bytes.data());
    all.codes.insert(all.codes.end(), bytes.begin(), bytes.end());
    all.scales.insert(all.scales.end(), codes->scales.begin(), codes->scales.end());
    all.zeros.insert(all.zeros.end(), codes->zero_points.begin(), codes->zero_points.end());
  }
  return all;
}

void check_equal_tensors(const fs::path& a, const fs::path& b) {
  const Checkpoint first(a);
  const Checkpoint second(b);
  CHECK(first.tensors().size() == second.tensors().size());
  for (const kvant::io::TensorInfo* info : first.tensors()) {
    INFO(info->name);
    REQUIRE(second.contains(info->name));
    const auto other = second.tensor(info->name);
    CHECK(other.info->shape == info->shape);
    const auto data = first.tensor(info->name).data;
    CHECK(std::equal(data.begin(), data.end(), other.data.begin(), other.data.end()));
  }
}

void check_valid(const fs::path& model) {
  const auto verdict = kvant::look::verify_checkpoint(model);
  INFO(to_text(verdict));
  CHECK(verdict.findings.empty());
}

std::string refused(const fs::path& model, GroupForm form) {
  const TempFolder folder;
  std::string message;
  CHECK(kvant::test::code_of(
            [&] { kvant::io::convert_checkpoint(model, folder.path() / "out", {.to = form}); },
            &message) == ErrorCode::unsupported);
  CHECK_FALSE(fs::exists(folder.path() / "out"));
  return message;
}

}  // namespace

TEST_CASE("convert: GPTQ and AWQ in every direction, and back to the same bytes") {
  for (const char* name : {"gptq_awq/gptq_4bit_g32_sym", "gptq_awq/awq_4bit_g32"}) {
    const TempFolder folder;
    const fs::path model = copied(folder, name);
    const Contents before = contents_of(model);
    for (const GroupForm form : kForms) {
      INFO(name << " to " << static_cast<int>(form));
      const fs::path out = folder.path() / std::to_string(static_cast<int>(form));
      const auto summary = kvant::io::convert_checkpoint(model, out, {.to = form});
      CHECK(summary.layers.size() == 14);
      CHECK(summary.warnings.empty());
      check_valid(out);
      CHECK(contents_of(out) == before);
      CHECK(kvant::look::report_checkpoint(model, out).total.max == 0);
      const auto section = section_of(out);
      CHECK(section.at("group_size") == 32);
      CHECK(section.at("bits") == 4);
      if (form == GroupForm::awq) {
        CHECK(section.at("quant_method") == "awq");
        CHECK(section.at("modules_to_not_convert") == nlohmann::json{"lm_head"});
      } else {
        CHECK(section.at("quant_method") == "gptq");
        CHECK(section.at("desc_act") == false);
        CHECK(section.at("checkpoint_format") == (form == GroupForm::gptq ? "gptq_v2" : "gptq"));
      }
      for (const GroupForm back : kForms) {
        const fs::path again = folder.path() / ("back" + std::to_string(static_cast<int>(back)));
        kvant::io::convert_checkpoint(out, again, {.to = back, .job = {.force = true}});
        CHECK(contents_of(again) == before);
        // From wherever it came, a form has the same bytes.
        if (back == form) check_equal_tensors(again, out);
        if (back == GroupForm::awq && std::string(name).ends_with("awq_4bit_g32")) {
          check_equal_tensors(again, model);
        }
        fs::remove_all(again);
      }
    }
  }
}

TEST_CASE("convert: versions of GPTQ with other bits and with an activation order") {
  for (const char* name : {"gptq_awq/gptq_2bit_g32_asym", "gptq_awq/gptq_3bit_g32_asym",
                           "gptq_awq/gptq_8bit_g-1_sym_v2", "gptq_awq/gptq_4bit_g32_asym_act"}) {
    INFO(name);
    const TempFolder folder;
    const fs::path model = copied(folder, name);
    const fs::path v1 = folder.path() / "v1";
    const fs::path v2 = folder.path() / "v2";
    const fs::path again = folder.path() / "again";
    kvant::io::convert_checkpoint(model, v1, {.to = GroupForm::gptq_v1});
    kvant::io::convert_checkpoint(v1, v2, {.to = GroupForm::gptq});
    kvant::io::convert_checkpoint(v2, again, {.to = GroupForm::gptq_v1});
    for (const fs::path& out : {v1, v2}) {
      check_valid(out);
      CHECK(kvant::look::report_checkpoint(model, out).total.max == 0);
    }
    check_equal_tensors(v1, again);
    CHECK(section_of(v2).at("desc_act") == std::string(name).ends_with("_act"));
    const std::string message = refused(model, GroupForm::awq);
    has(message, "layer \"model.layers.0.mlp.down_proj\" has ");
    has(message, std::string(name).ends_with("_act") ? "groups in the order of its activations"
                                                     : " bits, which AWQ cannot hold");
  }
}

TEST_CASE("convert: AWQ's gemv form becomes the others; its padding is left out") {
  CheckpointBuilder builder;
  builder.config(R"({"quantization_config": {"quant_method": "awq", "version": "gemv",
                     "group_size": 32}})");
  std::vector<std::int32_t> codes;
  for (std::int32_t i = 0; i < 8 * 8; ++i) codes.push_back(0x01234567 * (i + 1));
  builder.add<std::int32_t>("a.q_proj.qweight", {8, 8}, codes);
  std::vector<std::int32_t> zeros;
  std::vector<float16> scales(64, float16(0.0f));
  for (std::int32_t n = 0; n < 8; ++n) {
    zeros.push_back((n + 1) | (n + 2) << 4);
    scales[static_cast<std::size_t>(n * 8)] = float16(0.5f + static_cast<float>(n));
    scales[static_cast<std::size_t>(n * 8 + 1)] = float16(0.25f);
  }
  builder.add<std::int32_t>("a.q_proj.qzeros", {8, 1}, zeros);
  builder.add<float16>("a.q_proj.scales", {8, 8}, scales);
  const fs::path model = builder.write();
  const Contents before = contents_of(model);
  const TempFolder folder;
  for (const GroupForm form : kForms) {
    const fs::path out = folder.path() / std::to_string(static_cast<int>(form));
    kvant::io::convert_checkpoint(model, out, {.to = form});
    check_valid(out);
    CHECK(contents_of(out) == before);
    CHECK(Checkpoint(out).tensor("a.q_proj.scales").info->shape ==
          std::vector<std::uint64_t>{2, 8});
  }
}

TEST_CASE("convert: what a form cannot hold is refused by the name of the layer") {
  const TempFolder folder;
  const auto layer = [&](const char* name, const std::string& method, std::uint32_t zeros) {
    CheckpointBuilder builder;
    builder.config(R"({"quantization_config": {"quant_method": )" + method + "}}");
    builder.add<std::int32_t>("a.q_proj.qweight", {8, 8},
                              std::vector<std::int32_t>(64, 0x12345678));
    builder.add<std::int32_t>("a.q_proj.qzeros", {2, 1},
                              std::vector<std::int32_t>(2, static_cast<std::int32_t>(zeros)));
    builder.add<float16>("a.q_proj.scales", {2, 8}, std::vector<float16>(16, float16(0.5f)));
    const fs::path model = folder.path() / name;
    fs::copy(builder.write(), model);
    return model;
  };
  // Version 1 holds 1 to 16, version 2 and AWQ 0 to 15.
  const fs::path v1 = layer("v1", R"("gptq", "checkpoint_format": "gptq")", 0x7777777F);
  has(refused(v1, GroupForm::gptq),
      "layer \"a.q_proj\" has the zero point 16 (group 0, output 0), which GPTQ (version 2) "
      "cannot");
  has(refused(v1, GroupForm::awq), "the zero point 16");
  const fs::path v2 = layer("v2", R"("gptq", "checkpoint_format": "gptq_v2")", 0x77777707);
  has(refused(v2, GroupForm::gptq_v1),
      "has the zero point 0 (group 0, output 1), which GPTQ (version 1) cannot");
  kvant::io::convert_checkpoint(v2, folder.path() / "awq", {.to = GroupForm::awq});
  CHECK(contents_of(folder.path() / "awq") == contents_of(v2));
  // Nines less one would be read as a symmetric layer's eights.
  has(refused(layer("nines", R"("gptq", "checkpoint_format": "gptq_v2")", 0x99999999),
              GroupForm::gptq_v1),
      "has 9 for every zero point");
  // 64 inputs in groups of 48: GPTQ has a short last group, AWQ has not.
  has(refused(layer("ragged", R"("gptq", "checkpoint_format": "gptq_v2", "group_size": 48)",
                    0x77777777),
              GroupForm::awq),
      "64 inputs in groups of 48, the last of them short");
  has(refused(data_path("checkpoints/bnb_fp4"), GroupForm::awq),
      "is stored as bitsandbytes has it; layers of GPTQ and AWQ are converted");
  has(refused(data_path("checkpoints/fp32"), GroupForm::awq), "there is nothing to convert");
  CHECK(kvant::io::group_form_from_name("gptq-v1") == GroupForm::gptq_v1);
  CHECK_FALSE(kvant::io::group_form_from_name("exl2").has_value());
}
