// GPTBigCode end to end, tokens per second: the bundled model and one of santacoder's shape with
// random weights, in fp32, bf16 and llm-int8; reading 512 tokens (or as many as fit) at once, and
// writing one at a time behind them. "outside" is the share of time not spent in the linear layers.

#include <fmt/core.h>
#include <cmath>
#include <filesystem>

#include "harness/entries.hpp"
#include "harness/model_timing.hpp"
#include "harness/report.hpp"
#include "kvant/models/generate.hpp"
#include "kvant/models/load.hpp"

using namespace kvant;
using namespace kvant::bench;

namespace {

double linear_seconds = 0;

/// bfloat16 on kvant's half-precision kernels.
class HalfLinear final : public kvant::models::LinearLayer {
 public:
  HalfLinear(Context& context, MatrixView<const float> w) : layer_(Bf16Linear::pack(context, w)) {}
  void forward(Context& context, kvant::models::LayerInput& x, MatrixView<float> y) const override {
    x.forward(context, layer_, y);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_.out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_.memory_footprint(); }

 private:
  Bf16Linear layer_;
};

struct Speed {
  double read = 0;  ///< tokens per second
  double write = 0;
  double outside = 0;  ///< share of the time of writing
};

Speed measure(Context& context, const kvant::models::Model& model, bool quick) {
  const std::int64_t length = std::min<std::int64_t>(512, model.config.n_positions - 32);
  const std::vector<kvant::models::TokenId> ids = some_ids(length, model.config.vocab_size);
  std::vector<Speed> runs;
  for (int repeat = 0; repeat < (quick ? 3 : 5); ++repeat) {
    kvant::models::Cache cache;
    Speed speed;
    auto start = Clock::now();
    (void)kvant::models::forward(context, model, ids, cache);
    speed.read = static_cast<double>(length) / seconds_since(start);
    constexpr int kTokens = 16;
    std::vector<float> logits(static_cast<std::size_t>(model.config.vocab_size));
    linear_seconds = 0;
    double head_seconds = 0;
    start = Clock::now();
    for (int t = 0; t < kTokens; ++t) {
      const auto hidden = kvant::models::forward(context, model, std::span(ids).first(1), cache);
      const auto head = Clock::now();
      kvant::models::compute_logits(context, model, {hidden.data(), 1, model.config.n_embd},
                                    {logits.data(), 1, model.config.vocab_size});
      head_seconds += seconds_since(head);
    }
    const double total = seconds_since(start);
    speed.write = kTokens / total;
    speed.outside = (total - linear_seconds - head_seconds) / total;
    runs.push_back(speed);
  }
  std::sort(runs.begin(), runs.end(),
            [](const Speed& a, const Speed& b) { return a.write < b.write; });
  return runs[runs.size() / 2];
}

/// Random weights in santacoder's shape, the same floats for every layer but memory of its own.
kvant::models::Model random_model(Context& context, std::int64_t layers, std::int64_t width,
                                  kvant::models::Scheme scheme) {
  kvant::models::Model model;
  model.config.n_layer = layers;
  model.config.n_embd = width;
  model.config.embedding_size = width;
  model.config.n_head = width / 128;
  model.config.n_kv_head = 1;
  model.config.head_dim = 128;
  model.config.qkv_by_head = true;
  model.config.attention_scale = 1.0f / std::sqrt(128.0f);
  model.config.n_inner = 4 * width;
  model.config.n_positions = 2048;
  model.config.vocab_size = 49280;
  const auto matrix = [&](std::int64_t rows, std::int64_t cols, DType dtype) {
    kvant::models::WeightMatrix m(rows, cols, dtype);
    const std::vector<float> values = normal_floats(rows * cols, 5, 0.02f);
    context.kernels().convert({values.data(), DType::float32, m.row_data(0), dtype, rows * cols});
    return m;
  };
  model.wte = models::TokenTable(matrix(model.config.vocab_size, width, DType::float16));
  model.wpe = matrix(model.config.n_positions, width, DType::float16);
  const kvant::models::Norm norm{std::vector<float>(static_cast<std::size_t>(width), 1.0f),
                                 std::vector<float>(static_cast<std::size_t>(width), 0.0f)};
  model.final_norm = norm;
  const std::vector<float> w = normal_floats(4 * width * width, 6, 0.02f);
  const auto linear = [&](std::int64_t out,
                          std::int64_t in) -> std::unique_ptr<kvant::models::LinearLayer> {
    const MatrixView<const float> view(w.data(), out, in);
    if (scheme == kvant::models::Scheme::llm_int8) {
      const std::vector<std::int64_t> keep = {7, 300, 1500};
      return std::make_unique<kvant::models::QuantizedLinear>(
          Int8Linear::quantize(context, view, {}, {.keep_columns = keep}));
    }
    if (scheme == kvant::models::Scheme::bf16) return std::make_unique<HalfLinear>(context, view);
    return std::make_unique<kvant::models::FloatLinear>(matrix(out, in, DType::float32),
                                                        std::vector<float>());
  };
  for (std::int64_t i = 0; i < layers; ++i) {
    kvant::models::Block block;
    block.attention_norm = norm;
    block.mlp_norm = norm;
    block.qkv.parts.push_back(linear(width + 256, width));
    block.attention_output = linear(width, width);
    kvant::models::Mlp mlp;
    mlp.up.parts.push_back(linear(4 * width, width));
    mlp.down = linear(width, 4 * width);
    block.mlps.push_back(std::move(mlp));
    model.blocks.push_back(std::move(block));
  }
  return model;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, "gpt_bigcode", "GPTBigCode end to end, tokens per second");
  const std::string isa(Context().isa());
  Report report(options, isa);
  const std::filesystem::path bundled = std::filesystem::path(KVANT_BENCH_MODEL);
  for (const int threads : options.threads) {
    Context context({.threads = threads});
    const auto add_all = [&](const std::string& what,
                             const std::function<kvant::models::Model(kvant::models::Scheme)>&
                                 make) {
      std::map<std::string, Speed> speeds;
      for (const auto scheme : {kvant::models::Scheme::fp32, kvant::models::Scheme::bf16,
                                kvant::models::Scheme::llm_int8}) {
        kvant::models::Model model = make(scheme);
        time_linears(model, linear_seconds);
        speeds[std::string(kvant::models::to_string(scheme))] =
            measure(context, model, options.quick);
      }
      const Speed& ours = speeds["llm-int8"];
      Record record{.question = "gpt_bigcode",
                    .m = 0,
                    .n = 0,
                    .k = 0,
                    .threads = threads,
                    .isa = isa,
                    .dtype = "llm-int8",
                    .unit = "tok/s"};
      record.what = what + " write";
      record.value = {ours.write, ours.write, ours.write};
      for (const char* peer : {"fp32", "bf16"}) record.peers[peer] = speeds[peer].write;
      report.add(record);
      record.what = what + " read";
      record.value = {ours.read, ours.read, ours.read};
      for (const char* peer : {"fp32", "bf16"}) record.peers[peer] = speeds[peer].read;
      report.add(record);
      fmt::print(
          "  {}: outside the linear layers {:.0f} % (fp32), {:.0f} % (bf16), {:.0f} % (llm-int8) "
          "of the time of writing\n",
          what, 100 * speeds["fp32"].outside, 100 * speeds["bf16"].outside, 100 * ours.outside);
    };
    add_all("bundled", [&](kvant::models::Scheme scheme) {
      const kvant::models::Config config = kvant::models::load_config(bundled / "config.json");
      kvant::models::LoadOptions load;
      kvant::models::Request request;
      request.scheme = scheme;
      load.plan = kvant::models::make_plan(config, request);
      return kvant::models::load_model(context, bundled, config, load);
    });
    for (const Shape& s : options.shapes) {
      add_all(fmt::format("{}x{}", s.m, s.n), [&](kvant::models::Scheme scheme) {
        return random_model(context, s.m, s.n, scheme);
      });
    }
  }
  return report.finish();
}
