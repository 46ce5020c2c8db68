#include "harness/peers.hpp"

#if KVANT_HAS_ONEDNN
#include <omp.h>

#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>
#endif

namespace kvant::bench {

#if KVANT_HAS_ONEDNN
namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

struct Matmul {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul primitive;
  memory x, w, y;
  std::vector<float> floats;
};

/// Weights are reordered once into the layout that the primitive asks for.
std::shared_ptr<Matmul> prepare(const void* x, const void* w, std::int64_t m, std::int64_t n,
                                std::int64_t k, Type given, Type used, Type result, int threads) {
  omp_set_num_threads(threads);
  auto run = std::make_shared<Matmul>();
  try {
    const memory::desc x_md({m, k}, used, Tag::ab);
    const memory::desc w_any({k, n}, used, Tag::any);
    const memory::desc y_md({m, n}, result, Tag::ab);
    const dnnl::matmul::desc description(x_md, w_any, y_md);
    const dnnl::matmul::primitive_desc chosen(description, run->engine);
    run->primitive = dnnl::matmul(chosen);
    memory x_given({{m, k}, given, Tag::ab}, run->engine, const_cast<void*>(x));
    memory w_given({{k, n}, given, Tag::ba}, run->engine, const_cast<void*>(w));
    run->x = memory(x_md, run->engine);
    run->w = memory(chosen.weights_desc(), run->engine);
    run->y = memory(y_md, run->engine);
    dnnl::reorder(x_given, run->x).execute(run->stream, x_given, run->x);
    dnnl::reorder(w_given, run->w).execute(run->stream, w_given, run->w);
    run->stream.wait();
  } catch (const dnnl::error&) {
    return nullptr;
  }
  return run;
}

PeerRun ready(std::string name, const std::shared_ptr<Matmul>& run, std::int64_t m, std::int64_t n,
              int threads) {
  if (run == nullptr) return {std::move(name), {}, {}};
  return {std::move(name),
          [run, threads] {
            omp_set_num_threads(threads);
            run->primitive.execute(
                run->stream,
                {{DNNL_ARG_SRC, run->x}, {DNNL_ARG_WEIGHTS, run->w}, {DNNL_ARG_DST, run->y}});
            run->stream.wait();
          },
          [run, m, n](std::int64_t row, std::int64_t col) {
            if (run->floats.empty()) {
              run->floats.resize(static_cast<std::size_t>(m * n));
              memory out({{m, n}, Type::f32, Tag::ab}, run->engine, run->floats.data());
              dnnl::reorder(run->y, out).execute(run->stream, run->y, out);
              run->stream.wait();
            }
            return run->floats[static_cast<std::size_t>(row * n + col)];
          }};
}

}  // namespace

PeerRun onednn_s8(const std::int8_t* x, const std::int8_t* w, std::int64_t m, std::int64_t n,
                  std::int64_t k, bool to_float, int threads) {
  const Type result = to_float ? Type::f32 : Type::s32;
  return ready(to_float ? "onednn_s8_f32" : "onednn_s8",
               prepare(x, w, m, n, k, Type::s8, Type::s8, result, threads), m, n, threads);
}

PeerRun onednn_float(const float* x, const float* w, std::int64_t m, std::int64_t n, std::int64_t k,
                     bool bf16, int threads) {
  if (bf16) {
    return ready("onednn_bf16", prepare(x, w, m, n, k, Type::f32, Type::bf16, Type::bf16, threads),
                 m, n, threads);
  }
  return ready("onednn_f32", prepare(x, w, m, n, k, Type::f32, Type::f32, Type::f32, threads), m, n,
               threads);
}
#else
PeerRun onednn_s8(const std::int8_t*, const std::int8_t*, std::int64_t, std::int64_t, std::int64_t,
                  bool to_float, int) {
  return {to_float ? "onednn_s8_f32" : "onednn_s8", {}, {}};
}
PeerRun onednn_float(const float*, const float*, std::int64_t, std::int64_t, std::int64_t,
                     bool bf16, int) {
  return {bf16 ? "onednn_bf16" : "onednn_f32", {}, {}};
}
#endif

}  // namespace kvant::bench
