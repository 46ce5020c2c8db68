// Quantized folders run as they are stored: the codes packed, no float copy of the weights; in
// exact arithmetic the logits of transformers, in int8 near them.

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "kvant/io/layer_reader.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/look/verify.hpp"
#include "models/golden_values.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/changed_model.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::Arithmetic;
using kvant::WeightFormat;
using kvant::models::LinearLayer;
using kvant::models::Model;
using kvant::test::ids_in;
using kvant::test::kData;
using kvant::test::largest_difference;
using kvant::test::logits_of;
using kvant::test::relative_error;
using Ids = std::vector<kvant::models::TokenId>;

Model load_stored(kvant::Context& context, const fs::path& folder, Arithmetic arithmetic,
                  std::vector<std::string> skip = {}) {
  const kvant::models::Config config = kvant::models::load_config(folder / "config.json");
  kvant::models::Request request;
  request.arithmetic = arithmetic;
  kvant::models::LoadOptions options;
  options.plan = kvant::models::make_plan(config, request);
  CHECK(options.plan.scheme == kvant::models::Scheme::stored);  // what such a folder runs as
  options.skip = std::move(skip);
  return kvant::models::load_model(context, folder, config, options);
}

std::vector<const LinearLayer*> linear_layers(const Model& model) {
  std::vector<const LinearLayer*> layers;
  for (const kvant::models::Block& block : model.blocks) {
    for (const auto& part : block.qkv.parts) layers.push_back(part.get());
    layers.push_back(block.attention_output.get());
    for (const kvant::models::Mlp& mlp : block.mlps) {
      for (const auto& part : mlp.up.parts) layers.push_back(part.get());
      layers.push_back(mlp.down.get());
    }
  }
  return layers;
}

/// The layer behind another order of inputs.
const LinearLayer* in_order(const LinearLayer* layer) {
  const auto* reordered = dynamic_cast<const kvant::models::ReorderedLinear*>(layer);
  return reordered == nullptr ? layer : &reordered->layer();
}

/// The formats that a model's layers are held in; "float" for those that are expanded.
std::set<std::string> formats_of(const Model& model) {
  std::set<std::string> names;
  for (const LinearLayer* layer : linear_layers(model)) {
    const auto* packed = dynamic_cast<const kvant::models::QuantizedLinear*>(in_order(layer));
    names.insert(packed == nullptr ? "float" : std::string(to_string(packed->linear().format())));
  }
  return names;
}

struct StoredFolder {
  const char* path;
  std::set<std::string> formats;
};

const std::vector<StoredFolder>& stored_folders() {
  static const std::vector<StoredFolder> all = {
      {"gptq_awq/awq_4bit_g32", {"int4"}},
      {"gptq_awq/gptq_4bit_g32_sym", {"int4"}},
      {"gptq_awq/gptq_4bit_g32_asym_act", {"int4"}},  // act order: groups are not of neighbours
      {"gptq_awq/gptq_2bit_g32_asym", {"int2"}},
      {"gptq_awq/gptq_3bit_g32_asym", {"int3"}},
      {"gptq_awq/gptq_8bit_g-1_sym_v2", {"int8-group"}},
      {"compressed_tensors/w4_g32", {"int4"}},
      {"compressed_tensors/w4_g32_asym", {"int4"}},
      {"compressed_tensors/w4_channel", {"int4"}},
      {"compressed_tensors/w8_channel_packed", {"int8-group"}},
      {"compressed_tensors/w8a8", {"int8"}},
      {"compressed_tensors/w8a8_tensor", {"int8"}},
      {"compressed_tensors/w8a8_asym", {"float"}},  // int8 has no zero points
      {"compressed_tensors/fp8_channel", {"fp8"}},
      {"compressed_tensors/fp8_tensor", {"fp8"}},
      {"compressed_tensors/fp8_block", {"fp8-block"}},
      {"compressed_tensors/deepseek_fp8", {"fp8-block"}},
      {"compressed_tensors/mxfp4", {"mxfp4"}},
  };
  return all;
}

}  // namespace

TEST_CASE("stored layers are packed as they are: logits of transformers, bytes of the codes") {
  kvant::Context context;
  for (const StoredFolder& folder : stored_folders()) {
    INFO(folder.path);
    const kvant::io::SafeTensors expected(kData / folder.path / "expected.safetensors");
    const Ids ids = ids_in(expected, "input_ids");
    const auto wanted = expected.values<float>("logits");
    const Model exact = load_stored(context, kData / folder.path, Arithmetic::exact);
    CHECK(formats_of(exact) == folder.formats);
    const std::vector<float> logits = logits_of(context, exact, ids);
    CHECK(largest_difference(logits, wanted) <= 1e-5);
    const Model expanded = kvant::test::load(context, kData / folder.path, "fp32");
    CHECK(formats_of(expanded) == std::set<std::string>{"float"});
    CHECK(largest_difference(logits, logits_of(context, expanded, ids)) <= 1e-5);

    const Model int8 = load_stored(context, kData / folder.path, Arithmetic::kvant);
    CHECK(formats_of(int8) == folder.formats);
    CHECK(relative_error(logits_of(context, int8, ids), wanted) < 0.05);

    const Model int15 = load_stored(context, kData / folder.path, Arithmetic::int15);
    CHECK(formats_of(int15) == folder.formats);
    CHECK(int15.rows_are_independent);
    CHECK(relative_error(logits_of(context, int15, ids), wanted) < 0.0005);

    // Every layer takes the bytes of its codes and scales.
    const kvant::io::Checkpoint checkpoint(kData / folder.path);
    const auto stored =
        kvant::io::find_linear_layers(checkpoint, kvant::io::model_hints_of(kData / folder.path));
    std::uint64_t elements = 0;
    for (const auto& layer : stored) {
      if (layer.quantized()) elements += static_cast<std::uint64_t>(layer.elements());
    }
    std::size_t held = 0;
    for (const LinearLayer* layer : linear_layers(exact)) held += in_order(layer)->weight_bytes();
    if (folder.formats == std::set<std::string>{"float"}) {
      CHECK(held == elements * 4);
      CHECK(exact.expanded.size() == linear_layers(exact).size());
    } else {
      CHECK(exact.expanded.empty());
      const auto format = kvant::weight_format_from_name(*folder.formats.begin());
      const double bits = kvant::describe(*format).bits;
      const double codes = static_cast<double>(elements) * bits / 8;
      CHECK(static_cast<double>(held) >= codes);
      CHECK(static_cast<double>(held) <= codes + static_cast<double>(elements) / 12);  // scales
    }
  }
}

TEST_CASE("stored nf4 layers whose nested absmax comes back below 0 run on their codes") {
  kvant::Context context;
  kvant::test::ChangedModel model("checkpoints/bnb_nf4_double");
  const std::string weight = "transformer.h.0.attn.c_attn.weight";
  model.tensors.at(weight + ".nested_absmax").set(0, 0.3f);  // beside an offset of 0.21
  model.tensors.at(weight + ".absmax").set<std::uint8_t>(7, 0);
  const fs::path folder = model.write();
  const Ids ids = {1, 7, 42, 3};
  const Model exact = load_stored(context, folder, Arithmetic::exact);
  CHECK(formats_of(exact) == std::set<std::string>{"nf4"});
  const auto* layer = dynamic_cast<const kvant::models::QuantizedLinear*>(linear_layers(exact)[0]);
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  layer->linear().weights().unpack_scales(7, scales, zeros);
  CHECK(scales.at(0) < 0.0f);
  const std::vector<float> logits = logits_of(context, exact, ids);
  const Model expanded = kvant::test::load(context, folder, "fp32");
  CHECK(largest_difference(logits, logits_of(context, expanded, ids)) <= 1e-5);
}

TEST_CASE("stored layers: GPTQ and AWQ models described as older tools did it run the same") {
  kvant::Context context;
  for (const auto& [name, file] : {std::pair{"gptq_4bit_g32_sym", "quantize_config.json"},
                                   {"awq_4bit_g32", "quant_config.json"}}) {
    INFO(name);
    const std::string golden = std::string("gptq_awq/") + name;
    const kvant::io::SafeTensors expected(kData / golden / "expected.safetensors");
    const Ids ids = ids_in(expected, "input_ids");
    kvant::test::ChangedModel older(golden);
    older.beside[file] = older.config["quantization_config"];
    older.beside[file].erase("quant_method");
    older.config.erase("quantization_config");
    const fs::path folder = older.write();
    const Model model = load_stored(context, folder, Arithmetic::exact);
    CHECK(formats_of(model) == std::set<std::string>{"int4"});
    CHECK(largest_difference(logits_of(context, model, ids), expected.values<float>("logits")) <=
          1e-5);
    const auto verdict = kvant::look::verify_checkpoint(folder);
    INFO(to_text(verdict));
    CHECK(verdict.ok());
    REQUIRE(verdict.findings.size() == 1);
    CHECK(verdict.findings[0].message.find(std::string("; ") + file + " has it") !=
          std::string::npos);
    older.beside[file]["group_size"] = 0;
    CHECK_FALSE(kvant::look::verify_checkpoint(older.write()).ok());
    // Beside floats such a file means nothing.
    kvant::io::dequantize_checkpoint(folder, folder / "floats");
    fs::copy(folder / file, folder / "floats" / file);
    CHECK_FALSE(kvant::models::load_config(folder / "floats" / "config.json").stored_quantized);
  }
}

TEST_CASE(
    "stored layers: one that is broken is refused by the tensor and the rule, not as missing") {
  struct Case {
    const char* folder;
    const char* tensor;  ///< is taken away, or cut where it has rows
    std::int64_t rows;
    const char* says;
  };
  const std::string layer = "model.layers.0.mlp.up_proj";
  kvant::Context context;
  for (const Case& c :
       {Case{"gptq_awq/gptq_4bit_g32_sym", ".scales", 0, "up_proj.scales\" is missing"},
        {"gptq_awq/gptq_4bit_g32_sym", ".qzeros", 0, "up_proj.qzeros\" is missing"},
        {"gptq_awq/gptq_4bit_g32_sym", ".qzeros", 1, "up_proj.qzeros\" is I32 [1, "},
        {"gptq_awq/gptq_4bit_g32_sym", ".qweight", 1, "up_proj.qweight\" is I32 [1, "},
        {"gptq_awq/awq_4bit_g32", ".qzeros", 1, "up_proj.qzeros\" is I32 [1, "},
        {"compressed_tensors/w4_g32", ".weight_shape", 0, "up_proj.weight_shape\" is missing"},
        {"compressed_tensors/w4_g32", ".weight_scale", 0, "up_proj.weight_scale\" is missing"},
        {"compressed_tensors/mxfp4", ".weight_scale", 0,
         "up_proj.weight_packed\" is U8 [96, 32], codes of a quantized layer"},
        {"compressed_tensors/deepseek_fp8", ".weight_scale_inv", 0,
         "codes of a quantized layer, but its scales are missing"}}) {
    INFO(c.folder << " " << c.tensor);
    kvant::test::ChangedModel broken(c.folder);
    if (c.rows == 0) {
      REQUIRE(broken.tensors.erase(layer + c.tensor) == 1);
    } else {
      auto& tensor = broken.tensors.at(layer + c.tensor);
      tensor.bytes.resize(tensor.bytes.size() / tensor.shape[0]);
      tensor.shape[0] = 1;
    }
    const fs::path folder = broken.write();
    std::string message;
    CHECK(kvant::test::code_of([&] { load_stored(context, folder, Arithmetic::kvant); },
                               &message) == kvant::ErrorCode::invalid_file);
    INFO(message);
    CHECK(message.find(c.says) != std::string::npos);
    CHECK(message.find("there is no tensor") == std::string::npos);
  }
  kvant::test::ChangedModel broken("checkpoints/bnb_nf4_double");
  const std::string state = "transformer.h.1.mlp.c_fc.weight.quant_state.bitsandbytes__nf4";
  REQUIRE(broken.tensors.erase(state) == 1);
  const fs::path folder = broken.write();
  std::string message;
  CHECK(kvant::test::code_of([&] { load_stored(context, folder, Arithmetic::kvant); }, &message) ==
        kvant::ErrorCode::invalid_file);
  INFO(message);
  CHECK(message.find("quant_state is missing: the tensor \"" + state) != std::string::npos);
}

TEST_CASE("stored layers: 4-bit ones of bitsandbytes, nested absmax as it counts") {
  kvant::Context context;
  for (const auto& [name, format, tolerance] :
       {std::tuple{"bnb_fp4", "fp4", 1e-5}, {"bnb_nf4_double", "nf4", 3e-2}}) {
    INFO(name);
    const fs::path folder = kData / "checkpoints" / name;
    const kvant::io::SafeTensors expected(folder / "expected.safetensors");
    const Ids ids = ids_in(expected, "input_ids");
    const Model model = load_stored(context, folder, Arithmetic::exact);
    CHECK(formats_of(model) == std::set<std::string>{format});
    const Model expanded = kvant::test::load(context, folder, "fp32");
    // Dequantized by bitsandbytes, weights are rounded to the model's type; packed ones are not.
    CHECK(largest_difference(logits_of(context, model, ids), logits_of(context, expanded, ids)) <=
          tolerance);
    const Model int8 = load_stored(context, folder, Arithmetic::kvant);
    CHECK(relative_error(logits_of(context, int8, ids), logits_of(context, model, ids)) < 0.1);
  }
}

TEST_CASE("stored layers: what kvant quantize writes runs as it was written") {
  kvant::Context context;
  const kvant::test::TempFolder folder;
  for (const WeightFormat format : {WeightFormat::int8_group, WeightFormat::nf4}) {
    INFO(to_string(format));
    const fs::path out = folder.path() / std::string(to_string(format));
    kvant::io::quantize_checkpoint(kData / "families/llama_bias", out, {.scheme = format});
    const Model model = load_stored(context, out, Arithmetic::exact);
    CHECK(formats_of(model) == std::set<std::string>{std::string(to_string(format))});
    const Model expanded = kvant::test::load(context, out, "fp32");
    const Ids ids = {5, 7, 11, 13, 17};
    CHECK(largest_difference(logits_of(context, model, ids), logits_of(context, expanded, ids)) <=
          (format == WeightFormat::nf4 ? 3e-2 : 1e-5));
    // A layer that is to stay in float is expanded.
    const Model skipped =
        load_stored(context, out, Arithmetic::exact, {"*.layers.0.*", "*.layers.1.mlp.*"});
    CHECK(formats_of(skipped) == std::set<std::string>{"float", std::string(to_string(format))});
  }
}

TEST_CASE("stored layers: the scheme is for quantized folders, and exact is its arithmetic") {
  const auto plan = [](const char* folder, kvant::models::Request request) {
    return kvant::models::make_plan(kvant::models::load_config(kData / folder / "config.json"),
                                    request);
  };
  std::string message;
  CHECK(kvant::test::code_of(
            [&] { (void)plan("checkpoints/fp32", {.scheme = kvant::models::Scheme::stored}); },
            &message) == kvant::ErrorCode::invalid_argument);
  CHECK(message.find("this one holds floats") != std::string::npos);
  CHECK(plan("checkpoints/bnb_int8", {.scheme = kvant::models::Scheme::stored}).scheme ==
        kvant::models::Scheme::llm_int8);
  CHECK(plan("gptq_awq/awq_4bit_g32", {.arithmetic = Arithmetic::exact}).arithmetic ==
        Arithmetic::exact);
  CHECK(kvant::models::scheme_from_name("stored") == kvant::models::Scheme::stored);
  CHECK(kvant::models::scheme_names().find("mxfp4, stored") != std::string::npos);
  CHECK_THROWS_AS(plan("checkpoints/fp32", {.scheme = kvant::models::Scheme(WeightFormat::fp8_row),
                                            .arithmetic = Arithmetic::exact}),
                  kvant::models::RequestError);
}
