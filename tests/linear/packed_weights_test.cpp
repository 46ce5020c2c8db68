// PackedWeights: what was packed is what comes back, on every kernel set and from a file; and what
// is no file of packed weights is refused.

#include "kvant/packed_weights.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "kvant/int8_matmul.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/temp_folder.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

std::vector<std::string> available_sets() {
  std::vector<std::string> names;
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.available) names.emplace_back(isa.name);
  }
  return names;
}

std::vector<float> values_of(const PackedWeights& w) {
  std::vector<float> values(static_cast<std::size_t>(w.n() * w.k()));
  w.dequantize(MatrixView<float>(values.data(), w.n(), w.k()));
  return values;
}

void write_bytes(const std::string& file, const std::vector<std::byte>& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

TEST_CASE("packed weights: every format gives its rules' values back, whatever the kernel set") {
  std::mt19937_64 generator(test_seed());
  for (const auto& [n, k] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 70}, {49, 64}, {50, 257}, {97, 1030}}) {
    const std::vector<float> w = random_floats(generator, n * k);
    std::vector<std::vector<float>> first(kWeightFormats);
    for (const std::string& isa : available_sets()) {
      Context context({.isa = isa});
      for (const WeightFormatInfo& info : weight_format_table()) {
        if (info.is_gguf()) continue;  // not made of floats: kernels/groups_test.cpp
        const auto packed = PackedWeights::quantize(context, view(w, n, k), info.format);
        INFO(isa << " " << info.name << " " << n << " x " << k);
        CHECK(packed.n() == n);
        CHECK(packed.k() == k);
        CHECK(packed.fits(context.kernels()));
        const std::vector<float> back = values_of(packed);
        auto& want = first[static_cast<std::size_t>(info.format)];
        if (want.empty()) want = back;
        CHECK(back == want);  // bit-identical on every kernel set
        float worst = 0.0f;
        for (std::size_t i = 0; i < w.size(); ++i)
          worst = std::max(worst, std::abs(back[i] - w[i]));
        const bool fp8 = info.codes == DType::float8_e4m3fn;
        CHECK(worst <= (info.bits == 32 ? 0.0f
                        : fp8           ? 0.2f
                        : info.bits > 4 ? 0.03f
                        : info.bits > 2 ? 1.0f
                                        : 2.0f));
        CHECK(packed.stored_bytes() >= static_cast<std::size_t>(n * k * info.bits / 8));
        CHECK(packed.bytes() >= packed.stored_bytes());
      }
    }
  }
}

TEST_CASE("packed weights: without inputs a layer gives its bias, in every format") {
  const std::int64_t n = 40;
  const std::vector<float> nothing(1);
  const std::vector<float> bias(static_cast<std::size_t>(n), 2.0f);
  for (const std::string& isa : available_sets()) {
    Context context({.isa = isa});
    for (const WeightFormatInfo& info : weight_format_table()) {
      if (info.is_gguf()) continue;
      const Linear layer =
          Linear::from(PackedWeights::quantize(
                           context, MatrixView<const float>(nothing.data(), n, 0, 0), info.format),
                       view(bias, 1, n), {});
      for (const std::int64_t m : {1, 9, 40}) {
        std::vector<float> y(static_cast<std::size_t>(m * n));
        layer.forward(context, MatrixView<const float>(nothing.data(), m, 0, 0),
                      MatrixView<float>(y.data(), m, n));
        INFO(isa << " " << info.name << ", " << m << " rows");
        CHECK(std::all_of(y.begin(), y.end(), [](float value) { return value == 2.0f; }));
      }
    }
  }
}

TEST_CASE(
    "packed weights: a saved file maps back, to the same kernels as it is, to others repacked") {
  std::mt19937_64 generator(test_seed());
  const TempFolder folder;
  const std::int64_t n = 100;
  const std::int64_t k = 300;
  const std::vector<float> w = random_floats(generator, n * k);
  const std::vector<std::string> sets = available_sets();
  for (const WeightFormat format :
       {WeightFormat::int8_row, WeightFormat::bfloat16, WeightFormat::float16,
        WeightFormat::int4_group, WeightFormat::nf4, WeightFormat::int3_group,
        WeightFormat::fp8_row, WeightFormat::fp8_block, WeightFormat::mxfp4}) {
    for (const std::string& from : sets) {
      Context packer({.isa = from});
      const auto packed = PackedWeights::quantize(packer, view(w, n, k), format);
      const std::string file = (folder.path() / (from + ".packed")).string();
      packed.save(file);
      for (const std::string& to : sets) {
        Context context({.isa = to});
        const auto mapped = PackedWeights::map(context, file);
        INFO(to_string(format) << " from " << from << " to " << to);
        CHECK(mapped.fits(context.kernels()));
        CHECK(mapped.is_mapped() == packed.fits(context.kernels()));
        CHECK(values_of(mapped) == values_of(packed));
        CHECK(std::equal(mapped.absmax().begin(), mapped.absmax().end(), packed.absmax().begin(),
                         packed.absmax().end()));
        if (packed.fits(context.kernels())) {
          CHECK(PackedWeights::map(context, file, Repack::never).is_mapped());
        } else {
          const std::string message =
              message_of([&] { (void)PackedWeights::map(context, file, Repack::never); },
                         ErrorCode::unsupported);
          CHECK(message.find("\"" + from + "\"") != std::string::npos);
          CHECK(message.find("\"" + to + "\"") != std::string::npos);
        }
      }
    }
  }
}

TEST_CASE("packed weights: mapped int8 codes multiply as the packed ones do, of any size") {
  std::mt19937_64 generator(test_seed());
  const TempFolder folder;
  const std::int64_t m = 3;
  const std::int64_t n = 70;
  const std::int64_t k = 130;
  for (const int bound :
       {127, 80}) {  // pairs of activations that instructions may not hold, or not
    const std::vector<std::int8_t> a = random_codes(generator, m * k, -bound, bound);
    const std::vector<std::int8_t> b = random_codes(generator, n * k);
    std::vector<std::int32_t> want;
    for (const std::string& isa : available_sets()) {
      Context context({.isa = isa});
      const PackedWeights packed = pack_codes(context, view(b, n, k));
      const std::string file = (folder.path() / "codes.packed").string();
      packed.save(file);
      const PackedWeights mapped = PackedWeights::map(context, file);
      for (const PackedWeights& weights : {packed, mapped}) {
        std::vector<std::int32_t> y(static_cast<std::size_t>(m * n));
        int8_matmul(context, view(a, m, k), weights, MatrixView<std::int32_t>(y.data(), m, n));
        if (want.empty()) want = y;
        INFO(isa << " bound " << bound << (weights.is_mapped() ? " mapped" : " packed"));
        CHECK(y == want);
      }
    }
  }
}

TEST_CASE("packed weights: codes without absmax have no real values, mapped or not") {
  const TempFolder folder;
  const std::vector<std::int8_t> codes(33 * 70, 3);
  for (const std::string& isa : available_sets()) {
    Context context({.isa = isa});
    const PackedWeights packed = pack_codes(context, view(codes, 33, 70));
    const std::string file = (folder.path() / "codes.packed").string();
    packed.save(file);
    for (const PackedWeights& weights : {packed, PackedWeights::map(context, file)}) {
      INFO(isa << (weights.is_mapped() ? " mapped" : " packed"));
      CHECK(weights.scales() == nullptr);
      CHECK((weights.offsets() == nullptr) == (packed.offsets() == nullptr));
      message_of([&] { (void)values_of(weights); }, ErrorCode::invalid_argument);
      message_of([&] { (void)Linear::from(weights); }, ErrorCode::invalid_argument);
    }
  }
}

TEST_CASE("packed weights: what is not such a file, or a damaged one, is refused") {
  std::mt19937_64 generator(test_seed());
  const TempFolder folder;
  const std::int64_t n = 33;
  const std::int64_t k = 70;
  const std::string file = (folder.path() / "weights.packed").string();
  Context context;
  const auto map = [&] { return PackedWeights::map(context, file); };
  message_of(map, ErrorCode::io);  // not there
  CHECK(code_of([&] { (void)PackedWeights::map(context, folder.path().string()); }) ==
        ErrorCode::io);
  for (const std::string& isa : available_sets()) {
    Context packer({.isa = isa});
    const std::vector<float> w = random_floats(generator, n * k);
    PackedWeights::quantize(packer, view(w, n, k), WeightFormat::int8_row).save(file);
    const std::vector<std::byte> good = read_bytes(file);
    REQUIRE(good.size() > 4096);
    // Every byte of the header matters; a flip is found.
    for (std::size_t i = 0; i < 192; ++i) {
      std::vector<std::byte> bad = good;
      bad[i] ^= std::byte{0x41};
      write_bytes(file, bad);
      INFO(isa << " header byte " << i);
      CHECK(code_of(map) == ErrorCode::invalid_file);
    }
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{191}, std::size_t{4096}, good.size() - 1}) {
      write_bytes(file, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
      INFO(isa << " cut at " << size);
      CHECK(code_of(map) == ErrorCode::invalid_file);
    }
    std::vector<std::byte> longer = good;
    longer.push_back(std::byte{0});
    write_bytes(file, longer);
    CHECK(code_of(map) == ErrorCode::invalid_file);
    // Whatever the arrays hold, mapping and multiplying stay inside them (sanitizers watch).
    for (int i = 0; i < 50; ++i) {
      std::vector<std::byte> bad = good;
      for (int j = 0; j < 20; ++j) {
        const std::size_t at = 4096 + generator() % (bad.size() - 4096);
        bad[at] = static_cast<std::byte>(generator() & 255u);
      }
      write_bytes(file, bad);
      try {
        const PackedWeights weights = PackedWeights::map(packer, file);
        const std::vector<std::int8_t> a(static_cast<std::size_t>(k), 1);
        std::vector<std::int32_t> y(static_cast<std::size_t>(n));
        int8_matmul(packer, view(a, 1, k), weights, MatrixView<std::int32_t>(y.data(), 1, n));
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::invalid_file);
      }
    }
  }
}

TEST_CASE("packed weights: 4-bit files come back in every shape of groups; damage is found") {
  std::mt19937_64 generator(test_seed());
  const TempFolder folder;
  const std::string file = (folder.path() / "weights.packed").string();
  for (const auto& [format, k, block] :
       {std::tuple{WeightFormat::int4_group, std::int64_t{300}, std::int64_t{96}},
        {WeightFormat::int2_group, std::int64_t{100}, std::int64_t{32}},
        {WeightFormat::mxfp4, std::int64_t{70}, std::int64_t{32}},
        {WeightFormat::int4_group, std::int64_t{70}, std::int64_t{128}},
        {WeightFormat::nf4, std::int64_t{96}, std::int64_t{64}},
        {WeightFormat::fp4, std::int64_t{70}, std::int64_t{64}}}) {  // across rows, widened
    const std::vector<float> w = random_floats(generator, 50 * k);
    const std::vector<float> x = random_floats(generator, 3 * k);
    std::vector<float> want;
    for (const std::string& from : available_sets()) {
      Context packer({.isa = from});
      const auto packed = PackedWeights::quantize(packer, view(w, 50, k), format, {.block = block});
      packed.save(file);
      for (const std::string& to : available_sets()) {
        Context context({.isa = to});
        const auto mapped = PackedWeights::map(context, file);
        INFO(to_string(format) << " k " << k << " from " << from << " to " << to);
        CHECK(mapped.has_zero_points() == packed.has_zero_points());
        CHECK(mapped.block() == block);
        CHECK(values_of(mapped) == values_of(packed));
        std::vector<float> y(3 * 50);
        Linear::from(mapped).forward(context, view(x, 3, k), MatrixView<float>(y.data(), 3, 50));
        if (want.empty()) want = y;
        if (format != WeightFormat::fp4 && format != WeightFormat::mxfp4) CHECK(y == want);
      }
      const std::vector<std::byte> good = read_bytes(file);
      for (std::size_t i = 0; i < 192; i += 3) {
        std::vector<std::byte> bad = good;
        bad[i] ^= std::byte{0x41};
        write_bytes(file, bad);
        CHECK(code_of([&] { (void)PackedWeights::map(packer, file); }) == ErrorCode::invalid_file);
      }
      // Whatever the codes, scales and zero points are: no read or write outside (sanitizers
      // watch).
      for (int i = 0; i < 5; ++i) {
        std::vector<std::byte> bad = good;
        for (std::size_t at = 4096; at < bad.size(); ++at) {
          bad[at] = static_cast<std::byte>(generator() & 255u);
        }
        write_bytes(file, bad);
        std::vector<float> y(3 * 50);
        Linear::from(PackedWeights::map(packer, file))
            .forward(packer, view(x, 3, k), MatrixView<float>(y.data(), 3, 50));
      }
    }
  }
}

TEST_CASE("packed weights: saving says what went wrong and leaves what was there") {
  const TempFolder folder;
  const std::vector<float> w(64, 1.0f);
  const auto packed = PackedWeights::quantize(view(w, 2, 32), WeightFormat::int8_row);
  message_of([] { PackedWeights().save("nothing"); }, ErrorCode::invalid_argument);
  const std::string nowhere = (folder.path() / "no" / "such" / "folder").string();
  CHECK(message_of([&] { packed.save(nowhere); }, ErrorCode::io).find(nowhere) !=
        std::string::npos);
  std::filesystem::create_directory(folder.path() / "taken");
  std::filesystem::create_directory(folder.path() / "taken" / "inside");
  message_of([&] { packed.save((folder.path() / "taken").string()); }, ErrorCode::io);
  CHECK(std::filesystem::is_directory(folder.path() / "taken" / "inside"));
  const auto entries = [&] {
    const std::filesystem::directory_iterator all(folder.path());
    return std::distance(begin(all), end(all));
  };
  CHECK(entries() == 1);
  // A neighbour's file is nobody's business, and a link stays one.
  const std::string file = (folder.path() / "weights").string();
  write_bytes(file + ".tmp", {std::byte{1}});
  packed.save(file);
  CHECK(read_bytes(file + ".tmp").size() == 1);
  std::filesystem::create_symlink("weights", folder.path() / "link");
  packed.save((folder.path() / "link").string());
  CHECK(std::filesystem::is_symlink(folder.path() / "link"));
  CHECK(entries() == 4);
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  message_of([&] { packed.save(pipe); }, ErrorCode::io);
  CHECK(std::filesystem::is_fifo(pipe));
}

TEST_CASE("packed weights: many may save to one file at once; it is always whole") {
  const TempFolder folder;
  const std::string file = (folder.path() / "weights").string();
  const std::vector<float> w(300 * 400, 1.0f);
  const auto packed = PackedWeights::quantize(view(w, 300, 400), WeightFormat::int8_row);
  packed.save(file);
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&] {
      for (int j = 0; j < 10; ++j) packed.save(file);
    });
  }
  for (int j = 0; j < 30; ++j) {
    CHECK(code_of([&] { (void)PackedWeights::map(default_context(), file); }) == ErrorCode::ok);
  }
  for (std::thread& writer : writers) writer.join();
}

TEST_CASE("packed weights: options and shapes that no format has") {
  const std::vector<float> w(64, 1.0f);
  const auto quantize = [&](WeightFormat format, std::int64_t block) {
    return code_of(
        [&] { (void)PackedWeights::quantize(view(w, 2, 32), format, {.block = block}); });
  };
  CHECK(quantize(WeightFormat::int8_row, 0) == ErrorCode::ok);
  CHECK(quantize(WeightFormat::int8_row, 32) == ErrorCode::invalid_argument);
  CHECK(quantize(WeightFormat::bfloat16, 64) == ErrorCode::invalid_argument);
  CHECK(quantize(WeightFormat::nf4, 0) == ErrorCode::ok);
  CHECK(quantize(WeightFormat::nf4, 33) == ErrorCode::invalid_argument);
  const std::vector<std::int8_t> codes(static_cast<std::size_t>(kMaxInnerDimension + 1));
  CHECK(code_of([&] {
          (void)pack_codes(default_context(), view(codes, 1, kMaxInnerDimension + 1));
        }) == ErrorCode::out_of_range);
  // Empty ones, and what is left behind by a move.
  const PackedWeights empty = PackedWeights::quantize(view(w, 0, 32), WeightFormat::int8_row);
  CHECK(empty.n() == 0);
  PackedWeights moved = PackedWeights::quantize(view(w, 2, 32), WeightFormat::int8_row);
  const PackedWeights taken = std::move(moved);
  CHECK(taken.n() == 2);
  CHECK(moved.n() == 0);  // NOLINT: that is the question
  CHECK(moved.k() == 0);
  CHECK(moved.bytes() == 0);
  CHECK(moved.panels() == 0);
  std::vector<std::int8_t> out(64);
  CHECK(code_of([&] { taken.unpack_rows(1, MatrixView<std::int8_t>(out.data(), 2, 32)); }) ==
        ErrorCode::out_of_range);
  CHECK(code_of([&] { taken.unpack_rows(0, MatrixView<std::int8_t>(out.data(), 2, 31)); }) ==
        ErrorCode::shape_mismatch);
}

}  // namespace kvant::test
