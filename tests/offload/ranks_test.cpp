// Models shared by ranks, here threads, whose layers lie on devices, here the emulated one: the
// bits of one process, wherever the layers are.

#include "offload/offloaded_model.hpp"
#include "support/thread_ranks.hpp"

namespace kvant::test {
namespace {

/// How much of its share a rank has on its device.
enum class Where { nowhere, some, everywhere };

models::Offload offload_to(Where where) {
  if (where == Where::nowhere) return {};
  models::Offload offload = to_device();
  // Layers of attention alone: other ranks have their counterparts elsewhere.
  if (where == Where::some) offload.host = {"*.mlp.*"};
  return offload;
}

struct Found {
  Answer answer;
  std::int64_t on_device = 0;
};

/// What two ranks make of it, of which each has its layers in its own places.
std::vector<Found> by_ranks(const std::filesystem::path& folder, const std::string& scheme,
                            std::array<Where, 2> where, bool connected) {
  std::vector<Found> found(where.size());
  run_ranks(
      2,
      [&](Ranks& ranks) {
        const auto rank = static_cast<std::size_t>(ranks.rank());
        Context context({.threads = 1});
        models::LoadOptions options;
        options.ranks = &ranks;
        const models::Model model =
            load_offloaded(context, folder, scheme, offload_to(where[rank]), options);
        found[rank].answer = answer_of(context, model);
        if (model.placement != nullptr) found[rank].on_device = model.placement->count(true);
      },
      connected);
  return found;
}

}  // namespace

TEST_CASE("offload by ranks: one process's bits, on devices, on some of them, for some layers") {
  const TempFolder folder;
  model_with_outliers().save(folder.path());
  for (const char* scheme : {"llm-int8", "int8", "int4", "int8-group"}) {
    Context context({.threads = 1});
    const Answer want = answer_of(context, load_offloaded(context, folder.path(), scheme, {}));
    for (const bool connected : {false, true}) {
      for (const auto& where :
           {std::array{Where::everywhere, Where::everywhere},
            std::array{Where::everywhere, Where::nowhere},
            std::array{Where::some, Where::everywhere}, std::array{Where::some, Where::some}}) {
        INFO(scheme << ", connected: " << connected << ", " << static_cast<int>(where[0]) << " and "
                    << static_cast<int>(where[1]));
        const std::vector<Found> found = by_ranks(folder.path(), scheme, where, connected);
        for (std::size_t rank = 0; rank < found.size(); ++rank) {
          CHECK(found[rank].answer == want);
          CHECK((found[rank].on_device > 0) == (where[rank] != Where::nowhere));
        }
      }
    }
  }
}

TEST_CASE("offload by ranks: what calls exchange between devices is within the limit") {
  const std::filesystem::path folder = std::string(KVANT_TEST_DATA) + "/families/llama_rope3";
  for (const bool connected : {false, true}) {
    std::vector<std::uint64_t> estimated(2);
    std::vector<std::size_t> held(2);
    run_ranks(
        2,
        [&](Ranks& ranks) {
          const auto rank = static_cast<std::size_t>(ranks.rank());
          Context context({.threads = 1});
          models::LoadOptions options;
          options.ranks = &ranks;
          models::Offload offload = to_device();
          offload.rows = 7;
          const models::Model model = load_offloaded(context, folder, "int8", offload, options);
          (void)answer_of(context, model);
          estimated[rank] = model.placement->call_bytes;
          const auto* layer =
              dynamic_cast<const models::DeviceLinear*>(model.blocks[0].qkv.parts[0].get());
          if (layer != nullptr) held[rank] = layer->device().call_bytes();
        },
        connected);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      CHECK(held[rank] > 0);
      CHECK(held[rank] <= estimated[rank]);
    }
  }
}

}  // namespace kvant::test
