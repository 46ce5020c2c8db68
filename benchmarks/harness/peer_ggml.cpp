#include "harness/peer_ggml.hpp"

#if defined(KVANT_HAS_GGML)
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <memory>
#include <vector>

namespace kvant::bench {
namespace {

/// Copies of one weight in a buffer of ggml's, and a graph y = w x for each.
class Q4Products {
 public:
  Q4Products(const float* w, std::int64_t m, std::int64_t n, std::int64_t k, bool repacked,
             int threads, std::int64_t copies)
      : n_(n) {
    ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    backend_ = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend_, threads);
    ggml_backend_buffer_type_t place = ggml_backend_cpu_buffer_type();
    if (repacked && (place = repacking_type()) == nullptr) return;
    const auto graphs = static_cast<std::size_t>(copies);
    const std::size_t overhead = ggml_tensor_overhead() * 4 + ggml_graph_overhead_custom(8, false);
    weights_ = ggml_init({ggml_tensor_overhead() * (graphs + 1), nullptr, true});
    others_ = ggml_init({overhead * (graphs + 1), nullptr, true});
    ggml_tensor* x = ggml_new_tensor_2d(others_, GGML_TYPE_F32, k, m);
    std::vector<ggml_tensor*> tensors;
    for (std::int64_t i = 0; i < copies; ++i) {
      tensors.push_back(ggml_new_tensor_2d(weights_, GGML_TYPE_Q4_0, k, n));
      y_.push_back(ggml_mul_mat(others_, tensors.back(), x));
      graphs_.push_back(ggml_new_graph_custom(others_, 8, false));
      ggml_build_forward_expand(graphs_.back(), y_.back());
    }
    weights_buffer_ = ggml_backend_alloc_ctx_tensors_from_buft(weights_, place);
    others_buffer_ = ggml_backend_alloc_ctx_tensors(others_, backend_);
    if (weights_buffer_ == nullptr || others_buffer_ == nullptr) return;
    std::vector<char> blocks(ggml_row_size(GGML_TYPE_Q4_0, k) * static_cast<std::size_t>(n));
    ggml_quantize_chunk(GGML_TYPE_Q4_0, w, blocks.data(), 0, n, k, nullptr);
    for (ggml_tensor* tensor : tensors) {
      ggml_backend_tensor_set(tensor, blocks.data(), 0, blocks.size());
    }
    std::vector<float> inputs(static_cast<std::size_t>(m * k));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = static_cast<float>(i * 7919 % 1000) * 0.002f - 1.0f;
    }
    ggml_backend_tensor_set(x, inputs.data(), 0, inputs.size() * sizeof(float));
    ready_ = true;
  }
  Q4Products(const Q4Products&) = delete;
  Q4Products& operator=(const Q4Products&) = delete;
  ~Q4Products() {
    ggml_backend_buffer_free(weights_buffer_);
    ggml_backend_buffer_free(others_buffer_);
    ggml_free(weights_);
    ggml_free(others_);
    ggml_backend_free(backend_);
  }

  [[nodiscard]] bool ready() const noexcept { return ready_; }
  void run() {
    ggml_backend_graph_compute(backend_, graphs_[turn_]);
    turn_ = (turn_ + 1) % graphs_.size();
  }
  [[nodiscard]] float y(std::int64_t m, std::int64_t n) const {
    float value = 0;
    ggml_backend_tensor_get(y_[0], &value, static_cast<std::size_t>(m * n_ + n) * sizeof(float),
                            sizeof(float));
    return value;
  }

 private:
  /// The buffer type that interleaves rows; null: this build has none.
  static ggml_backend_buffer_type_t repacking_type() {
    ggml_backend_reg_t registry = ggml_backend_cpu_reg();
    ggml_backend_dev_t device = ggml_backend_reg_dev_get(registry, 0);
    const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_dev_get_extra_bufts"));
    ggml_backend_buffer_type_t* types = extra == nullptr ? nullptr : extra(device);
    for (; types != nullptr && *types != nullptr; ++types) {
      if (std::string(ggml_backend_buft_name(*types)).find("REPACK") != std::string::npos) {
        return *types;
      }
    }
    return nullptr;
  }

  ggml_backend_t backend_ = nullptr;
  std::int64_t n_;
  ggml_context* weights_ = nullptr;
  ggml_context* others_ = nullptr;
  ggml_backend_buffer_t weights_buffer_ = nullptr;
  ggml_backend_buffer_t others_buffer_ = nullptr;
  std::vector<ggml_cgraph*> graphs_;
  std::vector<ggml_tensor*> y_;
  std::size_t turn_ = 0;
  bool ready_ = false;
};

}  // namespace

PeerRun ggml_q4_0(const float* w, std::int64_t m, std::int64_t n, std::int64_t k, bool repacked,
                  int threads, std::int64_t copies) {
  PeerRun run{repacked ? "ggml_q4_0_repacked" : "ggml_q4_0", {}, {}};
  if (k % 32 != 0) return run;
  auto products = std::make_shared<Q4Products>(w, m, n, k, repacked, threads, copies);
  if (!products->ready()) return run;
  run.run = [products] { products->run(); };
  run.y = [products](std::int64_t r, std::int64_t c) { return products->y(r, c); };
  return run;
}

}  // namespace kvant::bench
#else
namespace kvant::bench {

PeerRun ggml_q4_0(const float*, std::int64_t, std::int64_t, std::int64_t, bool repacked, int,
                  std::int64_t) {
  return {repacked ? "ggml_q4_0_repacked" : "ggml_q4_0", {}, {}};
}

}  // namespace kvant::bench
#endif
