// The emulated device's memory under layers: what it counts, and what happens when it is full.

#include "cuda/device_under_test.hpp"
#include "cuda/emulator/emulated_cuda.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/temp_folder.hpp"
#include "support/views.hpp"

namespace kvant::test {

const KernelTable& device_kernels() {
  return emulated_cuda_device;
}
int times_waited() {
  return emulated_memory.waits;
}

TEST_CASE("a device that is full: an error with the bytes, nothing lost") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, 64 * 100);
  const std::vector<float> bias = random_floats(generator, 64);
  const std::size_t before = emulated_memory.used;
  const std::size_t limit = emulated_memory.limit;
  bool built = false;
  for (std::size_t room = 0; !built; room += 1024) {
    emulated_memory.limit = before + room;
    try {
      Context context({.kernels = &emulated_cuda_device});
      const auto layer = Int8Linear::quantize(context, view(w, 64, 100), view(bias, 1, 64));
      const DeviceCopy x(w.data(), 3 * 100 * 4), y(nullptr, 3 * 64 * 4);
      layer.forward(context, {reinterpret_cast<float*>(x.data()), DType::float32, 3, 100, 100},
                    {reinterpret_cast<float*>(y.data()), DType::float32, 3, 64, 64});
      built = true;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::out_of_memory);
      CHECK(std::string(error.what()).find("emulated") != std::string::npos);
    } catch (const std::bad_alloc&) {  // x or y
    }
    CHECK(emulated_memory.used == before);
  }
  CHECK(emulated_memory.limit > before + 64 * 100);
  emulated_memory.limit = limit;
}

TEST_CASE("a device's weights in groups: saved, mapped back, and packed anew for others") {
  std::mt19937_64 generator(test_seed());
  const TempFolder folder;
  const std::string file = (folder.path() / "weights.packed").string();
  const std::int64_t n = 37, k = 320;
  const std::vector<float> w = random_floats(generator, n * k);
  Context on_device({.kernels = &emulated_cuda_device}), host({.isa = "scalar"});
  for (const WeightFormat format : {WeightFormat::int4_group, WeightFormat::int3_group,
                                    WeightFormat::nf4, WeightFormat::int8_group}) {
    const auto values_of = [&](const PackedWeights& weights) {
      std::vector<float> values(w.size());
      weights.dequantize(MatrixView<float>(values.data(), n, k));
      return values;
    };
    const auto want = values_of(PackedWeights::quantize(host, view(w, n, k), format));
    for (Context* const from : {&on_device, &host}) {
      PackedWeights::quantize(*from, view(w, n, k), format).save(file);
      for (Context* const to : {&on_device, &host}) {
        INFO(to_string(format) << " from " << from->isa() << " to " << to->isa());
        const PackedWeights mapped = PackedWeights::map(*to, file);
        CHECK(mapped.fits(to->kernels()));
        CHECK(values_of(mapped) == want);
      }
    }
  }
}

}  // namespace kvant::test
