// Models whose linear layers lie on a device, here the emulated one: the bits of the host's layers,
// memory that is kept to, and one wait for the layers of an input.

#include <cstring>

#include "offload/offloaded_model.hpp"
#include "support/folders.hpp"

namespace kvant::test {
namespace {

using models::Model;

/// The device's memory as it was before a test.
struct SameMemory {
  SameMemory() : used(emulated_memory.used), limit(emulated_memory.limit) {}
  ~SameMemory() { emulated_memory.limit = limit; }
  SameMemory(const SameMemory&) = delete;
  SameMemory& operator=(const SameMemory&) = delete;
  std::size_t used;
  std::size_t limit;
};

/// Bytes that let about half of the layers onto the device.
std::uint64_t half_of(const models::Placement& all) {
  return all.call_bytes + all.bytes(true) / 2;
}

/// The answer with all, some and no layers on the device.
void check_same_bits(Context& context, const std::filesystem::path& folder,
                     const std::string& scheme, const models::LoadOptions& options = {},
                     const models::Request& request = {}) {
  INFO(folder.filename().string() << " " << scheme);
  const SameMemory memory;
  const Answer want =
      answer_of(context, load_offloaded(context, folder, scheme, {}, options, request));
  std::uint64_t half = 0;
  {
    const Model all = load_offloaded(context, folder, scheme, to_device(), options, request);
    REQUIRE(all.placement != nullptr);
    CHECK(all.placement->count(true) > 0);
    for (const models::LayerPlace& layer : all.placement->layers) {
      CHECK((layer.on_device || layer.reason == "in float"));
    }
    CHECK(answer_of(context, all) == want);
    half = half_of(*all.placement);
  }
  {
    const Model some = load_offloaded(context, folder, scheme, to_device(half), options, request);
    CHECK(some.placement->count(true) > 0);
    CHECK(some.placement->count(false) > 0);
    CHECK(some.placement->bytes(true) + some.placement->call_bytes <= half);
    CHECK(answer_of(context, some) == want);
  }
  const Model none = load_offloaded(context, folder, scheme, to_device(0), options, request);
  CHECK(none.placement->count(true) == 0);
  CHECK(emulated_memory.used == memory.used);  // and what the others had is given back
  CHECK(answer_of(context, none) == want);
}

}  // namespace

TEST_CASE("offload: LLM.int8() with outliers that are kept and that are found, bit for bit") {
  Context context;
  const TempFolder folder;
  model_with_outliers().save(folder.path());
  const models::Request six{.threshold = 6.0f};
  check_same_bits(context, folder.path(), "llm-int8", calibrated(), six);
  check_same_bits(context, folder.path(), "llm-int8", {},
                  {.mode = Arithmetic::bitsandbytes, .threshold = 6.0f});
  check_same_bits(context, folder.path(), "int8");
  check_same_bits(context, folder.path(), "int8-tensor");

  // The outliers are there, of both kinds.
  const Model model =
      load_offloaded(context, folder.path(), "llm-int8", to_device(), calibrated(), six);
  const auto* layer = dynamic_cast<const models::DeviceLinear*>(model.blocks[0].qkv.parts[0].get());
  REQUIRE(layer != nullptr);
  const auto kept = layer->linear().options().keep_columns;
  CHECK(std::vector<std::int64_t>(kept.begin(), kept.end()) == std::vector<std::int64_t>{3});
  const Answer with = answer_of(context, model, {50});
  models::LoadOptions seen = calibrated();
  seen.calibration_ids.push_back(50);
  const Model all = load_offloaded(context, folder.path(), "llm-int8", to_device(), seen, six);
  const auto* same = dynamic_cast<const models::DeviceLinear*>(all.blocks[0].qkv.parts[0].get());
  CHECK(same->linear().options().keep_columns.size() == 2);
  CHECK_FALSE(answer_of(context, all, {50}) == with);
}

TEST_CASE("offload: models of several shapes, bit for bit") {
  Context context;
  for (const char* name : {"families/llama_rope3", "families/mixtral", "families/gpt_neox",
                           "families/opt_post_norm", "encoders/t5"}) {
    check_same_bits(context, kData / name, "int8");
  }
  check_same_bits(context, kData / "families/llama_bias", "llm-int8");
}

TEST_CASE("offload: stored layers, and an adapter beside layers on the device") {
  Context context;
  check_same_bits(context, kData / "checkpoints/bnb_int8", "");
  models::LoadOptions options;
  options.adapter = kData / "adapters/llama";
  check_same_bits(context, kData / "families/llama_bias", "int8", options);
  // Forms that the device may not multiply: the same bits, wherever they are.
  for (const char* name : {"gptq_awq/gptq_4bit_g32_sym", "gptq_awq/gptq_3bit_g32_asym"}) {
    for (const Arithmetic arithmetic : {Arithmetic::kvant, Arithmetic::int15, Arithmetic::exact}) {
      INFO(name << " " << models::arithmetic_name(arithmetic));
      const models::Request request{.arithmetic = arithmetic};
      const Model host = load_offloaded(context, kData / name, "", {}, {}, request);
      const Model model = load_offloaded(context, kData / name, "", to_device(), {}, request);
      CHECK(answer_of(context, model) == answer_of(context, host));
      for (const models::LayerPlace& layer : model.placement->layers) {
        CHECK(layer.on_device == layer.reason.empty());
      }
    }
  }
}

TEST_CASE("offload: floats are near the host's, which sums in another order") {
  Context context;
  const std::filesystem::path folder = kData / "families/llama_rope3";
  for (const char* scheme : {"fp32", "bf16"}) {
    INFO(scheme);
    const Model host = load_offloaded(context, folder, scheme, {});
    const Model model = load_offloaded(context, folder, scheme, to_device());
    CHECK(model.placement->count(false) == 0);
    CHECK(model.weight_bytes() == host.weight_bytes());
    const std::vector<float> got = answer_of(context, model).logits;
    CHECK(relative_error(got, answer_of(context, host).logits) <
          (std::string(scheme) == "fp32" ? 1e-6 : 1e-2));
  }
}

TEST_CASE("offload: one wait for the layers of one input") {
  Context context;
  const auto waits_of_a_token = [&](const char* name) {
    const Model model = load_offloaded(context, kData / "families" / name, "int8", to_device());
    const int before = emulated_memory.waits;
    (void)logits_of(context, model, {5});
    return (emulated_memory.waits - before) / static_cast<int>(model.blocks.size());
  };
  CHECK(waits_of_a_token("llama_rope3") == 4);  // q k v; output; gate up; down
  CHECK(waits_of_a_token("opt") == 4);
}

TEST_CASE("offload: memory is asked for before layers are made, and kept to") {
  Context context;
  const SameMemory memory;
  const std::filesystem::path folder = kData / "families/llama_rope3";
  const Ids prompt = {9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 9, 8, 7, 6, 5, 4};
  for (const char* scheme : {"int8", "llm-int8", "bf16", "fp32"}) {
    INFO(scheme);
    std::uint64_t limit = 0;
    {
      const Model all = load_offloaded(context, folder, scheme, to_device());
      std::uint64_t needs = 0;
      for (const models::LayerPlace& layer : all.placement->layers) {
        CHECK(layer.needs >= layer.bytes);
        needs += layer.needs;
      }
      CHECK(needs < all.placement->bytes(true) * 3 / 2);
      limit = all.placement->call_bytes + needs;
      CHECK(emulated_memory.used - memory.used <= limit);
    }
    // With exactly that, everything fits, and a call of as many rows as were told.
    emulated_memory.limit = memory.used + limit;
    const Model exactly = load_offloaded(context, folder, scheme, to_device(limit));
    CHECK(exactly.placement->count(false) == 0);
    CHECK_NOTHROW(logits_of(context, exactly, prompt));
    // A limit above what is free is what is free.
    emulated_memory.limit = memory.limit;
  }
  emulated_memory.limit = memory.used + 100'000;
  const Model model = load_offloaded(context, folder, "int8", to_device(std::uint64_t{1} << 40));
  CHECK(model.placement->limit == 100'000);
  CHECK(model.placement->free_bytes == 100'000);
}

TEST_CASE("offload: layers for which the device has no memory after all stay on the host") {
  Context context;
  const SameMemory memory;
  const std::filesystem::path folder = kData / "families/llama_rope3";
  const Answer want = answer_of(context, load_offloaded(context, folder, "int8", {}));
  std::size_t half = 0;
  {
    const Model all = load_offloaded(context, folder, "int8", to_device());
    half = emulated_memory.used - all.placement->bytes(true) / 2;
  }
  // A device that promises more than it has.
  Memory boasting = *emulated_cuda_device.memory;
  boasting.available = []() noexcept { return std::size_t{1} << 40; };
  KernelTable kernels = emulated_cuda_device;
  kernels.memory = &boasting;
  models::Offload offload = to_device();
  offload.device = &kernels;
  emulated_memory.limit = half;
  {
    const Model some = load_offloaded(context, folder, "int8", offload);
    CHECK(some.placement->count(true) > 0);
    CHECK(some.placement->count(false) > 0);
    for (const models::LayerPlace& layer : some.placement->layers) {
      CHECK((layer.on_device || layer.reason == "the device had no memory left"));
    }
    // (Calls may have been left too little: what they need is told by the error below.)
    emulated_memory.limit = memory.limit;
    CHECK(answer_of(context, some) == want);
  }
  // Calls longer than was told take more memory, or say that there is none.
  offload.rows = 1;
  const Model short_calls = load_offloaded(context, folder, "int8", offload);
  CHECK(answer_of(context, short_calls) == want);
  emulated_memory.limit = emulated_memory.used;
  try {
    (void)logits_of(context, short_calls, Ids(20, 7));
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_memory);
    CHECK_THAT(error.what(), Catch::Matchers::Contains("for a call of 20 rows"));
  }
  emulated_memory.limit = memory.limit;
  CHECK(answer_of(context, short_calls) == want);  // and goes on when there is
}

TEST_CASE("offload: a device without room for calls gets no layers") {
  Context context;
  const SameMemory memory;
  emulated_memory.limit = memory.used + 1000;
  const std::filesystem::path folder = kData / "families/llama_rope3";
  const Model model = load_offloaded(context, folder, "int8", to_device());
  CHECK(model.placement->count(true) == 0);
  CHECK(reason_of(model, "model.layers.0.self_attn.q_proj") == "no room");
  CHECK(emulated_memory.used == memory.used);
}

}  // namespace kvant::test
