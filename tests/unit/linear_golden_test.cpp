// Linear quantizers against what torch, optimum-quanto and bitsandbytes computed
// (tests/data/linear_quantizers, tests/data/bitsandbytes).

#include <cmath>
#include <string>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/tensor_view.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

namespace {

using kvant::BlockShape;
using kvant::MatrixView;
using kvant::QuantParams;
using kvant::QuantScheme;
using kvant::RoundOrder;
using kvant::test::data_path;
using kvant::test::floats;
using kvant::test::ints;
using kvant::test::read_json;

const nlohmann::json& torch_cases() {
  static const nlohmann::json data = read_json("linear_quantizers/torch.json");
  return data["cases"];
}

const kvant::io::SafeTensors& torch_arrays() {
  static const kvant::io::SafeTensors file(data_path("linear_quantizers/torch.safetensors"));
  return file;
}

bool same_float(float mine, float theirs) {
  return mine == theirs || (std::isnan(mine) && std::isnan(theirs));
}

// Codes of a file as int32, whatever their type.
std::vector<std::int32_t> codes_of(const kvant::io::SafeTensors& file, const std::string& name) {
  std::vector<std::int32_t> result;
  const auto append = [&](const auto& values) { result.assign(values.begin(), values.end()); };
  switch (file.tensor(name).info->dtype) {
    case kvant::DType::int8: append(file.values<std::int8_t>(name)); break;
    case kvant::DType::uint8: append(file.values<std::uint8_t>(name)); break;
    default: append(file.values<std::int32_t>(name)); break;
  }
  return result;
}

QuantScheme torch_scheme(const nlohmann::json& c) {
  const bool is_signed = c["dtype"] == "qint8";
  if (c.value("scheme", "affine") == "symmetric") {
    return is_signed ? kvant::torch_qint8_symmetric : kvant::torch_quint8_symmetric;
  }
  return is_signed ? kvant::torch_qint8_affine : kvant::torch_quint8_affine;
}

// Codes and values must equal torch's but where x is NaN: torch's codes of NaN are an accident.
void check_codes(MatrixView<const float> x, const kvant::QuantizedMatrix& q,
                 const std::vector<std::int32_t>& codes, const std::vector<float>& values) {
  const kvant::Matrix<float> back = kvant::dequantize<float>(q);
  const std::vector<std::int32_t> mine = q.unpack();
  REQUIRE(mine.size() == codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto r = static_cast<std::int64_t>(i) / x.cols();
    const auto c = static_cast<std::int64_t>(i) % x.cols();
    CAPTURE(i, x(r, c));
    if (std::isnan(x(r, c))) {
      REQUIRE(back(r, c) == 0);
      continue;
    }
    REQUIRE(mine[i] == codes[i]);
    if (!values.empty()) REQUIRE(same_float(back(r, c), values[i]));
  }
}

}  // namespace

TEST_CASE("torch quantize_per_tensor and quantize_per_channel, codes and values") {
  int replayed = 0;
  for (const nlohmann::json& c : torch_cases()) {
    const bool per_channel = c["op"] == "quantize_per_channel";
    if (c["op"] != "quantize_per_tensor" && !per_channel) continue;
    const auto name = c["name"].get<std::string>();
    CAPTURE(name);
    const auto x = torch_arrays().matrix<float>(c["input"].get<std::string>());
    QuantParams params;
    params.scale = floats(c[per_channel ? "scales" : "scale"]);
    params.zero_point = ints(c[per_channel ? "zero_points" : "zero_point"]);
    params.block = per_channel ? kvant::per_channel(c["axis"].get<int>()) : kvant::per_tensor;
    const auto codes = codes_of(torch_arrays(), name + ".q");
    ++replayed;
    if (c["dtype"] == "qint32") {  // no storage in kvant; the scalar rule does it
      for (std::int64_t r = 0; r < x.rows(); ++r) {
        for (std::int64_t col = 0; col < x.cols(); ++col) {
          if (std::isnan(x(r, col))) continue;
          const auto p = static_cast<std::size_t>(!per_channel ? 0 : c["axis"] == 0 ? r : col);
          REQUIRE(kvant::quantize_value(x(r, col), 1 / params.scale[p], params.zero_point[p],
                                        INT32_MIN, INT32_MAX, RoundOrder::torch_channel) ==
                  codes[static_cast<std::size_t>(r * x.cols() + col)]);
        }
      }
      continue;
    }
    params.scheme = torch_scheme(c);
    const bool has_values = torch_arrays().contains(name + ".dq");
    check_codes(x, kvant::quantize(x, params), codes,
                has_values ? torch_arrays().values<float>(name + ".dq") : std::vector<float>{});
  }
  CHECK(replayed == 68);
}

TEST_CASE("torch quantize_per_channel of weights of convolutions: any rank by channel") {
  // A channel's values lie as in the matrix, whatever the sizes behind (or before) its axis are.
  int replayed = 0;
  for (const nlohmann::json& c : torch_cases()) {
    if (c["op"] != "quantize_per_channel" || c["dtype"] == "qint32") continue;
    const auto name = c["name"].get<std::string>();
    const bool first = c["axis"] == 0;
    const auto values = torch_arrays().values<float>(c["input"].get<std::string>());
    const auto dequantized = torch_arrays().values<float>(name + ".dq");
    const auto codes = codes_of(torch_arrays(), name + ".q");
    for (const std::vector<std::int64_t>& inner :
         {std::vector<std::int64_t>{40}, {8, 5}, {10, 2, 2}, {5, 2, 2, 2}}) {
      CAPTURE(name, inner.size());
      std::vector<std::int64_t> shape = inner;
      shape.insert(first ? shape.begin() : shape.end(), 6);
      const kvant::TensorView<const float> x(values, shape);
      const auto axis = kvant::per_channel(first ? 0 : -1);
      QuantParams params;
      params.scheme = torch_scheme(c);
      params.scale = floats(c["scales"]);
      params.zero_point = ints(c["zero_points"]);
      params.block = x.block(axis);
      check_codes(x.matrix(axis), kvant::quantize(x.matrix(axis), params), codes, dequantized);
      // Back into a tensor of the same shape.
      std::vector<float> back(values.size());
      const kvant::TensorView<float> y(back, shape);
      kvant::dequantize(kvant::quantize(x.matrix(axis), params), y.matrix(axis));
      for (std::size_t i = 0; i < back.size(); ++i) {
        if (!std::isnan(values[i])) CHECK(same_float(back[i], dequantized[i]));
      }
      ++replayed;
    }
  }
  CHECK(replayed == 24);
}

TEST_CASE("torch fake quantize, per tensor and per channel") {
  int replayed = 0;
  for (const nlohmann::json& c : torch_cases()) {
    const bool per_channel = c["op"] == "fake_quantize_per_channel_affine";
    if (c["op"] != "fake_quantize_per_tensor_affine" && !per_channel) continue;
    const auto name = c["name"].get<std::string>();
    CAPTURE(name);
    const auto x = torch_arrays().matrix<float>(c["input"].get<std::string>());
    const auto low = c["qmin"].get<int>();
    const auto high = c["qmax"].get<int>();
    QuantParams params;
    params.scheme = (low < 0 ? kvant::torch_qint8_affine : kvant::torch_quint8_affine)
                        .with_range(low, high)
                        .with_order(RoundOrder::kvant);
    params.scale = floats(c[per_channel ? "scales" : "scale"]);
    params.zero_point = ints(c[per_channel ? "zero_points" : "zero_point"]);
    params.block = per_channel ? kvant::per_channel(c["axis"].get<int>()) : kvant::per_tensor;
    const kvant::Matrix<float> y = kvant::fake_quantize(x, params);
    const auto want = torch_arrays().values<float>(name + ".y");
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i, x.data()[i]);
      if (std::isnan(x.data()[i])) {
        REQUIRE(y.values()[i] == 0);
      } else {
        REQUIRE(y.values()[i] == want[i]);
      }
    }
    ++replayed;
  }
  CHECK(replayed == 63);
}

TEST_CASE("torch observers: range, scale, zero point, codes of the last batch") {
  int replayed = 0;
  int refused = 0;
  for (const nlohmann::json& c : torch_cases()) {
    if (c["op"] != "observer" || c["kind"] == "Histogram") continue;
    const auto name = c["name"].get<std::string>();
    CAPTURE(name);
    if (!c.contains("quant_min")) continue;               // refused by torch
    if (c["scheme"] == "affine_float_qparams") continue;  // zero points are integers in kvant
    const QuantScheme scheme =
        torch_scheme(c).with_range(c["quant_min"].get<int>(), c["quant_max"].get<int>());
    const BlockShape block =
        c.contains("ch_axis") ? kvant::per_channel(c["ch_axis"].get<int>()) : kvant::per_tensor;
    const auto replay = [&](auto& observer) {
      for (const nlohmann::json& input : c["inputs"]) {
        const auto values = c.contains("values") ? floats(c["values"]) : std::vector<float>{};
        if (input == "values") {
          observer.observe(MatrixView<const float>(std::span<const float>(values)));
        } else {
          observer.observe(torch_arrays().matrix<float>(input.get<std::string>()));
        }
      }
      return observer.params(scheme);
    };
    kvant::MinMaxObserver min_max(block);
    kvant::MovingAverageObserver average(c.value("averaging_constant", 0.01f), block);
    const bool averages = c["kind"] == "MovingAverageMinMax";
    if (!std::isfinite(floats(c["scale"])[0])) {
      // torch goes on with a scale that is not finite: NaN, Inf, a range that overflows float32.
      CHECK_THROWS_AS(replay(min_max), kvant::Error);
      ++refused;
      continue;
    }
    const QuantParams params = averages ? replay(average) : replay(min_max);
    const kvant::BlockRange& range = averages ? average.range() : min_max.range();
    if (!c["inputs"].empty()) {
      CHECK(range.min == floats(c["min_val"]));
      CHECK(range.max == floats(c["max_val"]));
    }
    CHECK(params.scale == floats(c["scale"]));
    CHECK(params.zero_point == ints(c["zero_point"]));
    if (c.contains("codes_of") && torch_arrays().contains(name + ".q_last")) {
      const auto x = torch_arrays().matrix<float>(c["codes_of"].get<std::string>());
      check_codes(x, kvant::quantize(x, params), codes_of(torch_arrays(), name + ".q_last"), {});
    }
    ++replayed;
  }
  CHECK(replayed + refused == 81);
  CHECK(refused == 10);
}

TEST_CASE("quanto weights: scales, shifts, codes and values in fp32 and bf16") {
  const nlohmann::json json = read_json("linear_quantizers/quanto.json");
  const kvant::io::SafeTensors file(data_path("linear_quantizers/quanto.safetensors"));
  int replayed = 0;
  for (const nlohmann::json& c : json["cases"]) {
    if (c["op"] != "quantize_weight") continue;
    const auto name = c["name"].get<std::string>();
    CAPTURE(name);
    const bool zero_point = c["zeropoint"].is_boolean() && c["zeropoint"].get<bool>();
    const bool four = c["qtype"] == "qint4";
    const QuantScheme scheme =
        c["qtype"] == "qint8"            ? kvant::quanto_qint8
        : c["qtype"] == "qfloat8_e4m3fn" ? kvant::quanto_qfloat8
        : zero_point ? (four ? kvant::quanto_qint4_zeropoint : kvant::quanto_qint2_zeropoint)
                     : (four ? kvant::quanto_qint4 : kvant::quanto_qint2);
    const bool rows = c["axis"] == 0;
    BlockShape block = rows ? kvant::per_row : kvant::per_column;
    std::int64_t groups = 1;
    if (!c["group_size"].is_null()) {
      const auto size = c["group_size"].get<std::int64_t>();
      block = rows ? kvant::per_group(size) : kvant::per_block(size, 1);
      groups = rows ? 1 : 16 / size;
    }
    const auto run = [&]<class T>(std::type_identity<T>) {
      const auto x = file.matrix<T>(c["input"].get<std::string>());
      const QuantParams params = kvant::choose_params(x, scheme, block);
      const auto q = kvant::quantize(x, params);
      // quanto counts the groups of a column together: its index is column * groups + group.
      const auto mine = [&](const auto& values, std::size_t theirs) {
        const auto n = static_cast<std::int64_t>(theirs);
        const std::int64_t at = rows ? n : n % groups * x.cols() + n / groups;
        return static_cast<float>(values[static_cast<std::size_t>(at)]);
      };
      const auto scale = file.values<T>(name + ".scale");
      REQUIRE(params.scale.size() == scale.size());
      for (std::size_t i = 0; i < scale.size(); ++i) {
        REQUIRE(mine(params.scale, i) == static_cast<float>(scale[i]));
      }
      if (zero_point) {
        const auto shift = file.values<std::uint8_t>(name + ".shift");
        for (std::size_t i = 0; i < shift.size(); ++i) {
          REQUIRE(mine(params.zero_point, i) == static_cast<float>(shift[i]));
        }
      } else if (c["qtype"] != "qint8" && c["qtype"] != "qfloat8_e4m3fn") {
        const auto shift = file.values<T>(name + ".shift");
        for (std::size_t i = 0; i < shift.size(); ++i) {
          REQUIRE(mine(params.shift, i) == static_cast<float>(shift[i]));
        }
      }
      REQUIRE(q.unpack() == codes_of(file, name + ".codes"));
      const kvant::Matrix<T> back = kvant::dequantize<T>(q);
      const auto want = file.values<T>(name + ".dq");
      for (std::size_t i = 0; i < want.size(); ++i) {
        CAPTURE(i);
        REQUIRE(static_cast<float>(back.values()[i]) == static_cast<float>(want[i]));
      }
    };
    if (c["input"] == "W.bf16") {
      run(std::type_identity<kvant::bfloat16>{});
    } else {
      run(std::type_identity<float>{});
    }
    ++replayed;
  }
  CHECK(replayed == 28);

  const auto x = file.matrix<float>("W.f32");
  const auto tensor = kvant::choose_params(x, kvant::quanto_qint8);
  CHECK(tensor.scale == file.values<float>("qint8.f32.tensor.scale"));
  CHECK(kvant::quantize(x, tensor).unpack() == codes_of(file, "qint8.f32.tensor.codes"));
}

TEST_CASE("quanto's degenerate rows: zeros and constants") {
  const kvant::io::SafeTensors file(data_path("linear_quantizers/quanto.safetensors"));
  const auto x = file.matrix<float>("D");  // rows of 0, 5, -0.25 and a mixture
  const auto params = kvant::choose_params(x, kvant::quanto_qint8, kvant::per_row);
  CHECK(params.scale[0] == 1);  // quanto: 0, and 0 / 0
  CHECK(params.scale[1] == 0.03937007859349251f);
  const auto back = kvant::dequantize<float>(kvant::quantize(x, params));
  CHECK(back(0, 0) == 0);
  CHECK(back(1, 3) == 5);

  const auto shifted = kvant::choose_params(x, kvant::quanto_qint4, kvant::per_row);
  CHECK(shifted.scale[1] == 0);
  CHECK(shifted.shift[1] == -5);
  const auto q = kvant::quantize(x, shifted);
  CHECK(q.code(1, 0) == 0);
  CHECK(kvant::dequantize<float>(q)(1, 0) == 5);
  CHECK(kvant::dequantize<float>(q)(2, 0) == -0.25f);
}

TEST_CASE("bitsandbytes vectorwise absmax, codes and row statistics") {
  const nlohmann::json json = read_json("bitsandbytes/cases.json");
  const kvant::io::SafeTensors file(data_path("bitsandbytes/vectorwise.safetensors"));
  int replayed = 0;
  for (const nlohmann::json& c : json["vectorwise"]) {
    if (c["threshold"].get<double>() != 0) continue;
    const auto name = c["name"].get<std::string>();
    CAPTURE(name);
    const auto x = file.matrix<kvant::float16>(name + ".x");
    const auto params = kvant::choose_params(x, kvant::bitsandbytes_absmax, kvant::per_row);
    const auto absmax = file.values<float>(name + ".absmax");
    for (std::size_t i = 0; i < absmax.size(); ++i) {
      CHECK(params.scale[i] == (absmax[i] == 0 ? 1 : absmax[i] / 127));
    }
    CHECK(kvant::quantize(x, params).unpack() == codes_of(file, name + ".codes"));
    ++replayed;
  }
  CHECK(replayed == 6);
}
