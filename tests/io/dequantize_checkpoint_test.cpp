// dequantize_checkpoint: the way back from int8 modules to a float checkpoint.

#include <nlohmann/json.hpp>

#include <string>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::io::Checkpoint;
using kvant::io::quantize_checkpoint;
using kvant::io::QuantizeCheckpointOptions;
using kvant::test::code_of;
using kvant::test::config_of;
using kvant::test::kData;
using kvant::test::kFp32;
using kvant::test::read_text;
using kvant::test::TempFolder;

}  // namespace

TEST_CASE("dequantize_checkpoint: code * SCB / 127, kept columns as kept, GPT-2 turned back") {
  const TempFolder folder;
  const fs::path out = folder.path() / "out";
  const fs::path back = folder.path() / "back";
  QuantizeCheckpointOptions options;
  const std::string module = "transformer.h.0.mlp.c_fc";
  options.keep_outliers[module] = {0, 5};
  for (const fs::path& model : {kFp32, kData / "architectures/gpt2/float"}) {
    const bool transposed = model != kFp32;
    options.job.force = true;
    quantize_checkpoint(model, out, options);
    kvant::io::dequantize_checkpoint(out, back, {.dtype = DType::float32, .job = {.force = true}});
    CHECK(config_of(back) == config_of(model));
    const Checkpoint original(model);
    const Checkpoint codes(out);
    const Checkpoint result(back);
    REQUIRE(result.tensors().size() == original.tensors().size());
    for (const kvant::io::TensorInfo* info : original.tensors()) {
      CHECK(result.find(info->name)->shape == info->shape);
    }
    const auto stored = kvant::io::read_int8_layer(codes, module);
    const auto got = result.matrix<float>(module + ".weight");
    const auto first = original.matrix<float>(module + ".weight");
    for (std::int64_t r = 0; r < stored.codes.rows(); ++r) {
      for (std::int64_t c = 0; c < stored.codes.cols(); ++c) {
        const float value = transposed ? got(c, r) : got(r, c);
        const float before = transposed ? first(c, r) : first(r, c);
        float wanted = static_cast<float>(stored.codes(r, c)) *
                       stored.absmax[static_cast<std::size_t>(r)] * 7.874015718698502e-3f;
        if (c == 0 || c == 5) wanted = static_cast<float>(kvant::float16(before));
        if (value != wanted) FAIL("row " << r << " column " << c);
      }
    }
  }
  kvant::io::dequantize_checkpoint(out, back, {.dtype = DType::bfloat16, .job = {.force = true}});
  const Checkpoint bf16(back);
  for (const kvant::io::TensorInfo* info : bf16.tensors()) {
    CHECK(info->dtype == DType::bfloat16);
  }
  CHECK(config_of(back)["dtype"] == "bfloat16");
  CHECK(code_of([&] { kvant::io::dequantize_checkpoint(kFp32, folder.path() / "x"); }) ==
        ErrorCode::unsupported);
}

TEST_CASE("dequantize reads the 4-bit forms of bitsandbytes too") {
  const TempFolder folder;
  for (const char* name : {"bnb_fp4", "bnb_nf4_double"}) {
    const fs::path model = kData / "checkpoints" / name;
    const fs::path back = folder.path() / name;
    kvant::io::dequantize_checkpoint(model, back, {.dtype = DType::float32});
    CHECK_FALSE(config_of(back).contains("quantization_config"));
    const Checkpoint stored(model);
    const Checkpoint result(back);
    int layers = 0;
    for (const auto& layer : kvant::io::find_linear_layers(stored)) {
      if (!layer.quantized()) continue;
      ++layers;
      std::vector<float> wanted(static_cast<std::size_t>(layer.elements()));
      kvant::io::LayerReader(stored, layer).read(0, layer.outputs, wanted.data());
      CHECK(result.values<float>(layer.name + ".weight") == wanted);
      CHECK(result.find(layer.name + ".weight.absmax") == nullptr);
    }
    CHECK(layers == 8);
  }
}
