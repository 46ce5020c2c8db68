// What an outside program does with kvant: an int8 layer on a few numbers. With KVANT_CONSUMER_ALL
// it uses the components too, with KVANT_CONSUMER_MODELS kvant::models as well, with
// KVANT_CONSUMER_MPI kvant::mpi (one process, without a launcher).

#include <kvant/kvant.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

#ifdef KVANT_CONSUMER_ALL
#include <kvant/eigen.hpp>
#include <kvant/fmt.hpp>
#include <kvant/io/safetensors.hpp>
#include <kvant/look/budget.hpp>
#endif
#ifdef KVANT_CONSUMER_MODELS
#include <kvant/models/tokenizer.hpp>
#endif

#ifdef KVANT_CONSUMER_MPI
#include <kvant/mpi.hpp>
#endif

int main() {
  const std::vector<float> weights(4 * 8, 0.5f);
  const std::vector<float> x(2 * 8, 1.0f);
  std::vector<float> y(2 * 4);
  const auto layer =
      kvant::Int8Linear::quantize(kvant::MatrixView<const float>(weights.data(), 4, 8));
  layer.forward(kvant::MatrixView<const float>(x.data(), 2, 8),
                kvant::MatrixView<float>(y.data(), 2, 4));
  for (const float value : y) {
    if (std::abs(value - 4.0f) > 0.01f) return 1;
  }
#ifdef KVANT_CONSUMER_ALL
  const kvant::EigenMatrix<float> m = kvant::EigenMatrix<float>::Identity(3, 3);
  const auto view = kvant::as_view(m);
  fmt::print("{}\n", kvant::compare(view, view));
  try {
    const kvant::io::SafeTensors file("no such file");
    return 2;
  } catch (const kvant::Error& error) {
    fmt::print("{}: {}\n", error.code(), error.what());
  }
  if (kvant::look::parse_budget("500MB").value != 500e6) return 3;
#endif
#ifdef KVANT_CONSUMER_MODELS
  try {
    const kvant::models::Tokenizer tokenizer("{}", "an empty object");
    return 4;
  } catch (const kvant::Error& error) {
    std::printf("%s\n", error.what());
  }
#endif
#ifdef KVANT_CONSUMER_MPI
  kvant::mpi::Communicator ranks;
  kvant::Context context;
  const auto shared = kvant::RowParallelLinear::quantize(
      ranks, context, kvant::MatrixView<const float>(weights.data(), 4, 8),
      kvant::WeightFormat::int8_row);
  std::vector<float> whole(2 * 4);
  shared.forward(context, kvant::MatrixView<const float>(x.data(), 2, 8),
                 kvant::MatrixView<float>(whole.data(), 2, 4));
  if (whole != y || ranks.size() != 1) return 5;
#endif
  std::printf("kvant %s on %s\n", KVANT_VERSION_STRING, kvant::default_context().kernels().name);
}
