#include "cuda/peer_cublaslt.hpp"

#if KVANT_HAS_CUBLASLT
#include <cublasLt.h>

#include "cuda/harness.hpp"
#endif

namespace kvant::bench {

#if KVANT_HAS_CUBLASLT
namespace {

constexpr std::size_t kWorkspace = 64 << 20;

class Product : public CublasLt {
 public:
  Product(PeerType type, std::int64_t m, std::int64_t n, std::int64_t k) : workspace_(kWorkspace) {
    const bool bf16 = type == PeerType::bf16;
    cublasLtCreate(&handle_);
    cublasLtMatmulDescCreate(&operation_, bf16 ? CUBLAS_COMPUTE_32F : CUBLAS_COMPUTE_32I,
                             bf16 ? CUDA_R_32F : CUDA_R_32I);
    // Column-major there: y^T = w x^T, with w^T transposed.
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                   sizeof(transposed));
    const cudaDataType_t in = bf16 ? CUDA_R_16BF : CUDA_R_8I;
    const auto u = [](std::int64_t v) { return static_cast<std::uint64_t>(v); };
    cublasLtMatrixLayoutCreate(&w_, in, u(k), u(n), k);
    cublasLtMatrixLayoutCreate(&x_, in, u(k), u(m), k);
    cublasLtMatrixLayoutCreate(&y_, bf16 ? CUDA_R_16BF : CUDA_R_32I, u(n), u(m), n);
    cublasLtMatmulPreferenceCreate(&preference_);
    const std::size_t room = kWorkspace;
    cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &room, sizeof(room));
    int found = 0;
    works = cublasLtMatmulAlgoGetHeuristic(handle_, operation_, w_, x_, y_, y_, preference_, 1,
                                           &algorithm_, &found) == CUBLAS_STATUS_SUCCESS &&
            found > 0;
    is_float_ = bf16;
  }
  ~Product() override {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatrixLayoutDestroy(y_);
    cublasLtMatrixLayoutDestroy(x_);
    cublasLtMatrixLayoutDestroy(w_);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
  }
  void run(const void* x, const void* w, void* y, cudaStream_t stream) override {
    const float one = 1.0f, zero = 0.0f;
    const std::int32_t int_one = 1, int_zero = 0;
    const void* const alpha = is_float_ ? static_cast<const void*>(&one) : &int_one;
    const void* const beta = is_float_ ? static_cast<const void*>(&zero) : &int_zero;
    cublasLtMatmul(handle_, operation_, alpha, w, w_, x, x_, beta, y, y_, y, y_, &algorithm_.algo,
                   workspace_.data(), kWorkspace, stream);
  }
  bool works = false;

 private:
  DeviceBuffer workspace_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, y_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulHeuristicResult_t algorithm_{};
  bool is_float_ = true;
};

}  // namespace

std::unique_ptr<CublasLt> CublasLt::create(PeerType type, std::int64_t m, std::int64_t n,
                                           std::int64_t k) {
  auto product = std::make_unique<Product>(type, m, n, k);
  if (!product->works) return nullptr;
  return product;
}
#else
std::unique_ptr<CublasLt> CublasLt::create(PeerType, std::int64_t, std::int64_t, std::int64_t) {
  return nullptr;
}
#endif

}  // namespace kvant::bench
