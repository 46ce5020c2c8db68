// Which layers go to a device: by patterns, by a device map, by their formats; and what is refused.

#include "offload/offloaded_model.hpp"

namespace kvant::test {
namespace {

using models::Model;

const std::filesystem::path kLlama =
    std::filesystem::path(KVANT_TEST_DATA) / "families/llama_rope3";
const std::filesystem::path kMixtral = std::filesystem::path(KVANT_TEST_DATA) / "families/mixtral";

Answer on_host(Context& context, const std::string& scheme,
               const models::LoadOptions& options = {}) {
  return answer_of(context, load_offloaded(context, kLlama, scheme, {}, options));
}

}  // namespace

TEST_CASE("offload: layers that match a pattern stay on the host, in their format or in fp32") {
  Context context;
  models::Offload offload = to_device();
  offload.host = {"*.layers.1.*"};
  const Model model = load_offloaded(context, kLlama, "int8", offload);
  CHECK(model.placement->count(true) == 7);
  CHECK(model.placement->count(false) == 7);
  CHECK(reason_of(model, "model.layers.0.mlp.down_proj") == "on the device");
  CHECK(reason_of(model, "model.layers.1.mlp.down_proj") == "asked for");
  CHECK(answer_of(context, model) == on_host(context, "int8"));

  models::LoadOptions in_float;
  in_float.skip = {"*.down_proj"};
  const Model skipped = load_offloaded(context, kLlama, "llm-int8", to_device(), in_float);
  CHECK(reason_of(skipped, "model.layers.1.mlp.down_proj") == "in float");
  CHECK(skipped.placement->count(true) == 12);
  CHECK(answer_of(context, skipped) == on_host(context, "llm-int8", in_float));

  offload.host = {"*.down_proj"};
  const Model all_float = load_offloaded(context, kLlama, "fp32", offload);
  CHECK(all_float.placement->count(true) == 12);
  CHECK(reason_of(all_float, "model.layers.0.mlp.down_proj") == "asked for");

  // A router is no layer that a scheme quantizes.
  const Model mixture = load_offloaded(context, kMixtral, "int8", to_device());
  for (const models::LayerPlace& layer : mixture.placement->layers) {
    INFO(layer.name);
    CHECK(layer.on_device != layer.name.ends_with(".gate"));
  }
  CHECK(reason_of(mixture, "model.layers.0.block_sparse_moe.gate") == "in float");
}

TEST_CASE("offload: a device map by names, the longest of which decides") {
  Context context;
  models::Offload offload = to_device();
  offload.map = {{"", false},
                 {"model.embed_tokens", true},
                 {"lm_head", false},
                 {"model.layers.0", true},
                 {"model.layers.0.mlp", false},
                 {"model.layers.0.mlp.up_proj", true},
                 {"model.rotary_emb", true}};
  const Model model = load_offloaded(context, kLlama, "int8", offload);
  CHECK(model.placement->count(true) == 5);  // q k v, output, up
  CHECK(reason_of(model, "model.layers.0.mlp.up_proj") == "on the device");
  CHECK(reason_of(model, "model.layers.0.mlp.gate_proj") == "asked for");
  CHECK(reason_of(model, "model.layers.1.mlp.up_proj") == "asked for");
  CHECK(answer_of(context, model) == on_host(context, "int8"));
}

TEST_CASE("offload: weights in groups and of 4 bits on the device, the same bits") {
  Context context;
  for (const char* scheme : {"int4", "int3", "nf4", "int8-group", "mxfp4"}) {
    CAPTURE(scheme);
    const Model model = load_offloaded(context, kLlama, scheme, to_device());
    // (Blocks of nf4 that cross rows are of the host alone.)
    CHECK((model.placement->count(true) > 0 || std::string(scheme) == "nf4"));
    CHECK(answer_of(context, model) == on_host(context, scheme));
  }
}

TEST_CASE("offload: formats that the device does not multiply stay on the host, and it says so") {
  Context context;
  for (const char* scheme : {"fp8", "fp16"}) {
    const Model model = load_offloaded(context, kLlama, scheme, to_device());
    CHECK(model.placement->count(true) == 0);
    CHECK(reason_of(model, "model.layers.0.self_attn.q_proj") ==
          "the device multiplies no " + std::string(scheme));
    CHECK(answer_of(context, model) == on_host(context, scheme));
  }
  // A plan with formats of both kinds, the rest in float.
  models::LoadOptions plan;
  plan.formats["model.layers.0.self_attn.q_proj"] = {WeightFormat::int8_row, 0};
  plan.formats["model.layers.0.self_attn.k_proj"] = {WeightFormat::fp8_row, 0};
  const Model mixed = load_offloaded(context, kLlama, "fp32", to_device(), plan);
  CHECK(mixed.placement->count(true) == 1);
  CHECK(reason_of(mixed, "model.layers.0.self_attn.q_proj") == "on the device");
  CHECK(reason_of(mixed, "model.layers.0.self_attn.k_proj") == "the device multiplies no fp8");
  CHECK(reason_of(mixed, "model.layers.0.self_attn.v_proj") == "in float");
  CHECK(answer_of(context, mixed) == on_host(context, "fp32", plan));
  // Codes with activations in float: a product of floats, which the device has no kernels for.
  plan.formats.erase("model.layers.0.self_attn.k_proj");
  const models::Request exact{.layer_formats = true, .arithmetic = Arithmetic::exact};
  const Model in_floats = load_offloaded(context, kLlama, "fp32", to_device(), plan, exact);
  CHECK(in_floats.placement->count(true) == 0);
  CHECK(reason_of(in_floats, "model.layers.0.self_attn.q_proj") ==
        "the device does not multiply int8 in exact arithmetic");
  CHECK(answer_of(context, in_floats) ==
        answer_of(context, load_offloaded(context, kLlama, "fp32", {}, plan, exact)));
}

TEST_CASE("offload: a layer knows the contexts that it runs on") {
  Context host;
  Context device({.kernels = &emulated_cuda_device});
  const std::vector<float> weights(12, 1.0f);
  const MatrixView<const float> view(weights.data(), 3, 4);
  const Linear here = Linear::quantize(host, view, WeightFormat::int8_row);
  const Linear there = Linear::quantize(device, view, WeightFormat::int8_row);
  CHECK(here.runs_on(host));
  CHECK_FALSE(here.runs_on(device));
  CHECK(there.runs_on(device));
  CHECK_FALSE(there.runs_on(host));
  const ActivationOptions exact{.arithmetic = Arithmetic::exact};
  CHECK(Linear::quantize(host, view, WeightFormat::int8_row, {}, exact).runs_on(host));
  CHECK_FALSE(Linear::quantize(device, view, WeightFormat::int8_row, {}, exact).runs_on(device));
}

TEST_CASE("offload: names that mean nothing, and kernels of the host are refused") {
  using Catch::Matchers::Contains;
  Context context;
  const auto message = [&](const models::Offload& offload, ErrorCode code) {
    try {
      (void)load_offloaded(context, kLlama, "int8", offload);
    } catch (const Error& error) {
      CHECK(error.code() == code);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  models::Offload pattern = to_device();
  pattern.host = {"*.down_projection"};
  CHECK_THAT(message(pattern, ErrorCode::invalid_argument),
             Contains("*.down_projection") && Contains("model.layers.0.self_attn.q_proj"));
  models::Offload map = to_device();
  map.map = {{"model.layers.7", false}};
  CHECK_THAT(message(map, ErrorCode::invalid_argument),
             Contains("model.layers.7") && Contains("model.layers.0.self_attn.q_proj"));
  map.map = {{"model.layer", true}};
  CHECK_THAT(message(map, ErrorCode::invalid_argument), Contains("no part of the model"));
  models::Offload of_host = to_device();
  of_host.device = &context.kernels();
  CHECK_THAT(message(of_host, ErrorCode::invalid_argument), Contains("the host's memory"));
}

}  // namespace kvant::test
