// A real device under the layer tests, and what only it has: streams and graphs.

#include <cuda_runtime.h>

#include <cstring>

#include "cuda/device_under_test.hpp"
#include "cuda/hardware/device_memory.hpp"
#include "kvant/context.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {

const KernelTable& device_kernels() {
  return kernels_for("cuda");
}
int times_waited() {
  return 0;
}

TEST_CASE("a forward pass in a CUDA graph on a stream of the caller's", "[cuda]") {
  std::mt19937_64 generator(test_seed());
  for (const std::int64_t m : {1, 5, 40, 100, 200, 300}) {
    const std::int64_t n = 520, k = 1030;
    const std::vector<float> w = random_floats(generator, n * k);
    std::vector<float> x = random_floats(generator, m * k);
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
    Context context({.isa = "cuda", .cuda_stream = stream});
    CHECK(context.isa() == "cuda");
    const auto layer = Int8Linear::quantize(context, view(w, n, k));
    Staging staging;
    float* const device_x = staging.in(x.data(), static_cast<std::int64_t>(x.size() * 4));
    std::vector<float> y(static_cast<std::size_t>(m * n));
    float* const device_y = staging.in(y.data(), static_cast<std::int64_t>(y.size() * 4));
    const auto forward = [&] {
      layer.forward(context, MatrixView<const float>(device_x, m, k),
                    MatrixView<float>(device_y, m, n));
    };
    forward();  // the workspace grows here, not inside of the graph
    context.wait();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    forward();
    require(cudaStreamEndCapture(stream, &graph), "capture");
    require(cudaGraphInstantiate(&executable, graph, 0), "the graph");
    for (int repeat = 0; repeat < 3; ++repeat) {  // other outliers each time, and fewer
      x = random_floats(generator, m * k);
      for (std::int64_t i = 0; i < 20 >> (2 * repeat); ++i) {
        x[static_cast<std::size_t>(i * 97 % (m * k))] = 50.0f;
      }
      // On the stream itself: a copy from pageable memory on the default stream may return before
      // its last bytes are there, and a non-blocking stream does not wait for them.
      require(cudaMemcpyAsync(device_x, x.data(), x.size() * 4, cudaMemcpyHostToDevice, stream),
              "copy");
      require(cudaGraphLaunch(executable, stream), "the graph");
      context.wait();
      staging.out(y.data());
      Context host({.isa = "scalar"});
      std::vector<float> want(y.size());
      Int8Linear::quantize(host, view(w, n, k))
          .forward(host, view(x, m, k), MatrixView<float>(want.data(), m, n));
      INFO(m << " rows, repeat " << repeat);
      CHECK(std::memcmp(y.data(), want.data(), y.size() * 4) == 0);
    }
    require(cudaGraphExecDestroy(executable), "the graph");
    require(cudaGraphDestroy(graph), "the graph");
    require(cudaStreamDestroy(stream), "the stream");
  }
}

}  // namespace kvant::test
