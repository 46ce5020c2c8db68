// Parameters and codes go through files without loss.

#include "kvant/io/quantized_file.hpp"

#include <bit>
#include <string>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::QuantParams;
using kvant::test::code_of;
using kvant::test::TempFolder;
using kvant::test::wave;

namespace {

void check_same(const QuantParams& a, const QuantParams& b) {
  CHECK(a.scheme.name == b.scheme.name);
  CHECK(a.scheme.dtype == b.scheme.dtype);
  CHECK(a.scheme.lowest == b.scheme.lowest);
  CHECK(a.scheme.highest == b.scheme.highest);
  CHECK(a.scheme.rule == b.scheme.rule);
  CHECK(a.scheme.tensor_order == b.scheme.tensor_order);
  CHECK(a.scheme.block_order == b.scheme.block_order);
  CHECK(a.block == b.block);
  CHECK(a.scale == b.scale);
  CHECK(a.inv_scale == b.inv_scale);
  CHECK(a.zero_point == b.zero_point);
  CHECK(a.shift == b.shift);
  CHECK(a.arithmetic == b.arithmetic);
}

}  // namespace

TEST_CASE("quantized files: parameters come back bit for bit, for every scheme") {
  const TempFolder folder;
  const auto path = folder.path() / "params.safetensors";
  const std::vector<float> x = wave(96 * 60, 1);
  const MatrixView<const float> view(x.data(), 96, 60);
  for (const kvant::QuantScheme& scheme :
       {kvant::int8_symmetric, kvant::uint8_affine, kvant::int4_affine, kvant::uint2_affine,
        kvant::torch_quint8_symmetric.with_range(0, 127), kvant::quanto_qint4,
        kvant::quanto_qint2_zeropoint}) {
    for (const kvant::BlockShape block :
         {kvant::per_tensor, kvant::per_row, kvant::per_group(7), kvant::per_block(5, 11)}) {
      INFO(std::string(scheme.name));
      const QuantParams params = kvant::choose_params(view, scheme, block);
      kvant::io::save_params(path, params);
      const QuantParams loaded = kvant::io::load_params(path);
      check_same(loaded, params);
      const auto codes = kvant::quantize(view, params);
      CHECK(kvant::quantize(view, loaded).bytes() == codes.bytes());
      kvant::io::save_quantized(path, codes);
      const auto back = kvant::io::load_quantized(path);
      check_same(back.params(), params);
      CHECK(back.bytes() == codes.bytes());
      CHECK(back.rows() == 96);
      CHECK(back.cols() == 60);
    }
  }
  // A scheme of the caller's own has no name that could live on.
  kvant::QuantScheme mine = kvant::int8_affine.with_range(-5, 9);
  mine.name = "mine";
  kvant::io::save_params(path, kvant::choose_params(view, mine));
  CHECK(kvant::io::load_params(path).scheme.name == "custom");
  CHECK(kvant::io::load_params(path).scheme.highest == 9);
}

TEST_CASE("quantized files: several in one, empty ones, and hostile ones") {
  const TempFolder folder;
  const auto path = folder.path() / "two.safetensors";
  const std::vector<float> x = wave(12, 2);
  const auto a = kvant::quantize(MatrixView<const float>(x.data(), 3, 4),
                                 kvant::choose_params(MatrixView<const float>(x.data(), 3, 4),
                                                      kvant::int4_symmetric, kvant::per_row));
  const kvant::QuantizedMatrix none;
  kvant::io::SafeTensorsWriter writer;
  kvant::io::add_quantized(writer, "a", a);
  kvant::io::add_quantized(writer, "none", none);
  writer.write(path);
  const kvant::io::SafeTensors file(path);
  CHECK(kvant::io::read_quantized(file, "a").bytes() == a.bytes());
  CHECK(kvant::io::read_quantized(file, "none").rows() == 0);
  CHECK(code_of([&] { (void)kvant::io::read_params(file, "b"); }) == ErrorCode::invalid_argument);

  const auto broken = [&](const std::string& description, std::vector<float> scale,
                          std::vector<std::int32_t> zero = {}) {
    kvant::io::SafeTensorsWriter bad;
    bad.set_metadata("quantized.kvant", description);
    bad.add("quantized.scale", scale);
    if (!zero.empty()) bad.add("quantized.zero_point", zero);
    bad.write(path);
    return code_of([&] { (void)kvant::io::load_params(path); });
  };
  const std::string good =
      R"({"scheme":"x","dtype":"int8","lowest":-127,"highest":127,"rule":"absmax",)"
      R"("tensor_order":"kvant","block_order":"kvant","block":[0,0],"arithmetic":"float32"})";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return broken(text, {1.0f});
  };
  CHECK(broken(good, {1.0f}) == ErrorCode::ok);
  CHECK(broken(good, {-1.0f}) == ErrorCode::invalid_argument);
  CHECK(broken(good, {1.0f}, {1, 2}) == ErrorCode::invalid_file);
  CHECK(broken(good, {1.0f}, {200}) == ErrorCode::invalid_argument);
  CHECK(broken("[]", {1.0f}) == ErrorCode::invalid_file);
  CHECK(with("absmax", "absmin") == ErrorCode::invalid_file);
  CHECK(with("\"int8\"", "\"float32\"") == ErrorCode::unsupported);
  CHECK(with("-127", "-99999999999") == ErrorCode::invalid_argument);
  CHECK(with("[0,0]", "[0]") == ErrorCode::invalid_file);
  CHECK(with("[0,0]", "[0,-1]") == ErrorCode::invalid_argument);
  CHECK(with("\"block\"", "\"bloc\"") == ErrorCode::invalid_file);
}
