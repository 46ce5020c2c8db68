#include "cuda/hardware/staged_kernels.hpp"

#include <mutex>

#include "cuda/hardware/device_memory.hpp"
#include "cuda/tables.hpp"

namespace kvant::test {
namespace {

using detail::kernels_cuda;

std::int64_t dtype_bytes(DType dtype) {
  return describe(dtype).bits / 8;
}
std::int64_t float_bytes(const FloatRows& x) {
  return x.rows == 0 ? 0 : ((x.rows - 1) * x.stride + x.cols) * dtype_bytes(x.dtype);
}
FloatRows staged(Staging& s, FloatRows x) {
  x.data = s.in(static_cast<const unsigned char*>(x.data), float_bytes(x));
  return x;
}

void quantize_rows(const QuantizeRowsArgs& q) noexcept {
  Staging s;
  QuantizeRowsArgs d = q;
  d.x = staged(s, q.x);
  d.keep_mask = s.in(q.keep_mask, q.x.cols * 2);
  d.given_absmax = s.in(q.given_absmax, 4);
  auto* const codes = static_cast<unsigned char*>(q.codes);
  d.codes = s.in(codes, (q.x.rows - 1) * q.code_stride + q.k_padded);
  d.absmax = s.in(q.absmax, q.x.rows * 4);
  d.outlier_columns = s.in(q.outlier_columns, q.x.cols);
  d.row_scale = s.in(q.row_scale, q.x.rows * 4);
  kernels_cuda.quantize_rows(d);
  finish("quantize_rows");
  s.out(codes);
  s.out(q.absmax);
  s.out(q.row_scale);
  s.out(q.outlier_columns);
}

void range(const RangeArgs& a) noexcept {
  Staging s;
  RangeArgs d = a;
  d.x = staged(s, a.x);
  const std::int64_t bytes = (a.per_column ? a.x.cols : a.x.rows) * 4;
  d.min = s.in(a.min, bytes);
  d.max = s.in(a.max, bytes);
  kernels_cuda.range(d);
  finish("range");
  s.out(a.min);
  s.out(a.max);
}

std::int64_t parameters(std::int64_t rows, std::int64_t cols, int row_step, int col_step) {
  return ((rows - 1) * row_step + (cols - 1) * col_step + 1) * 4;
}

void quantize(const QuantizeArgs& a) noexcept {
  Staging s;
  QuantizeArgs d = a;
  d.x = staged(s, a.x);
  const std::int64_t bytes = parameters(a.x.rows, a.x.cols, a.row_step, a.col_step);
  d.scale = s.in(a.scale, bytes);
  d.zero_point = s.in(a.zero_point, bytes);
  auto* const codes = static_cast<unsigned char*>(a.codes);
  d.codes = s.in(codes, (a.x.rows - 1) * a.code_stride + a.x.cols);
  kernels_cuda.quantize(d);
  finish("quantize");
  s.out(codes);
}

void dequantize(const DequantizeArgs& a) noexcept {
  Staging s;
  DequantizeArgs d = a;
  d.codes = s.in(static_cast<const unsigned char*>(a.codes), (a.rows - 1) * a.code_stride + a.cols);
  const std::int64_t bytes = parameters(a.rows, a.cols, a.row_step, a.col_step);
  d.scale = s.in(a.scale, bytes);
  d.zero_point = s.in(a.zero_point, bytes);
  auto* const y = static_cast<unsigned char*>(a.y);
  d.y = s.in(y, ((a.rows - 1) * a.y_stride + a.cols) * dtype_bytes(a.y_dtype));
  kernels_cuda.dequantize(d);
  finish("dequantize");
  s.out(y);
}

void convert(const ConvertArgs& a) noexcept {
  Staging s;
  ConvertArgs d = a;
  d.x = s.in(static_cast<const unsigned char*>(a.x), a.count * dtype_bytes(a.x_dtype));
  auto* const y = static_cast<unsigned char*>(a.y);
  d.y = s.in(y, a.count * dtype_bytes(a.y_dtype));
  kernels_cuda.convert(d);
  finish("convert");
  s.out(y);
}

void list_outliers(const ListOutliersArgs& a) noexcept {
  Staging s;
  ListOutliersArgs d = a;
  d.flags = s.in(a.flags, a.tasks * a.cols);
  d.columns = s.in(a.columns, a.cols * 8);
  d.count = s.in(a.count, 8);
  auto* const codes = static_cast<unsigned char*>(a.codes);
  d.codes = s.in(codes, a.blocks.m * a.k_padded);
  kernels_cuda.list_outliers(d);
  finish("list_outliers");
  for (const void* host : {static_cast<const void*>(a.columns), static_cast<const void*>(a.count),
                           static_cast<const void*>(codes)}) {
    s.out(host);
  }
}

void gather_features(const GatherFeaturesArgs& a) noexcept {
  Staging s;
  GatherFeaturesArgs d = a;
  d.x = staged(s, a.x);
  d.columns = s.in(a.columns, a.count * 8);
  d.to = s.in(a.to, a.count * a.x.rows * 4);
  kernels_cuda.gather_features(d);
  finish("gather_features");
  s.out(a.to);
}

bool has_panels(WeightFormat format) {
  return describe(format).panels() != PanelKind::elements;
}
/// From one output's weights to the next.
std::int64_t weight_row_bytes(WeightFormat format, const GemmArgs& g) {
  switch (describe(format).panels()) {
    case PanelKind::nibbles: return g.nibbles.panel_bytes();
    case PanelKind::groups: return g.groups.panel_bytes();
    case PanelKind::elements: break;
  }
  return g.range.k_padded * describe(format).bits / 8;
}

/// Everything of a GEMM but y.
GemmArgs staged(Staging& s, const GemmArgs& g, WeightFormat format) {
  const std::int64_t element = has_panels(format) ? 1 : describe(format).bits / 8;
  GemmArgs d = g;
  d.a = s.in(static_cast<const unsigned char*>(g.a), g.range.m * g.range.k_padded * element);
  d.b = s.in(static_cast<const unsigned char*>(g.b), g.range.n * weight_row_bytes(format, g));
  const Outlying& outliers = g.epilogue.outliers;
  d.columns.scale = s.in(g.columns.scale, g.range.n * 4);
  d.columns.columns = s.in(g.columns.columns, outliers.found.count * 8);
  Epilogue& e = d.epilogue;
  e.row_scale = s.in(g.epilogue.row_scale, g.range.m * 4);
  e.col_scale = s.in(g.epilogue.col_scale, g.range.n * 4);
  e.bias = s.in(g.epilogue.bias, g.range.n * 4);
  const auto stage = [&](const OutlierBlock& from, OutlierBlock& to) {
    to.x = s.in(from.x, from.count * from.x_stride * 4);
    to.w = s.in(static_cast<const unsigned char*>(from.w),
                g.range.n * from.count * dtype_bytes(from.w_dtype));
  };
  stage(outliers.kept, e.outliers.kept);
  stage(outliers.found, e.outliers.found);
  return d;
}

/// Threads that share the tiles of a product: each stages all of y.
std::mutex one_product;

template <const KernelTable& kTable, WeightFormat kFormat>
void gemm(const GemmArgs& g) noexcept {
  const std::lock_guard lock(one_product);
  Staging s;
  GemmArgs d = staged(s, g, kFormat);
  auto* const y = static_cast<unsigned char*>(g.epilogue.y);
  d.epilogue.y = s.in(
      y, ((g.range.m - 1) * g.epilogue.y_stride + g.range.n) * dtype_bytes(g.epilogue.y_dtype));
  kTable.gemm_for(kFormat).gemm(d);
  finish("gemm");
  s.out(y);
}

template <WeightFormat kFormat>
void gather_columns(const GemmArgs& g, float* w) noexcept {
  const std::lock_guard lock(one_product);
  Staging s;
  const GemmArgs d = staged(s, g, kFormat);
  float* const there = s.in(w, g.range.n * g.epilogue.outliers.found.count * 4);
  kernels_cuda.gemm_for(kFormat).gather_columns(d, there);
  finish("gather_columns");
  s.out(w);
}

/// One panel, an output.
template <WeightFormat kFormat>
void widen_panel(const GemmArgs& g, float* w) noexcept {
  Staging s;
  GemmArgs d = g;
  d.b = s.in(static_cast<const unsigned char*>(g.b),
             (g.range.panel_begin + 1) * weight_row_bytes(kFormat, g));
  kernels_cuda.gemm_for(kFormat).widen_panel(d, s.in(w, g.range.k_padded * 4));
  finish("widen_panel");
  s.out(w);
}

template <const KernelTable& kTable, WeightFormat kFormat>
void give(KernelTable& table) {
  GemmKernels& kernels = table.gemm[static_cast<int>(kFormat)];
  kernels.gemm = &gemm<kTable, kFormat>;
  if (kernels.gather_columns != nullptr) kernels.gather_columns = &gather_columns<kFormat>;
  // int8's asks for scales that no test of a panel gives.
  kernels.widen_panel = has_panels(kFormat) ? &widen_panel<kFormat> : nullptr;
}

template <const KernelTable& kTable>
KernelTable staged_table() {
  KernelTable table = kTable;
  table.memory = nullptr;  // they are given the host's
  table.quantize_rows = &quantize_rows;
  table.range = &range;
  table.quantize = &quantize;
  table.dequantize = &dequantize;
  table.convert = &convert;
  table.list_outliers = &list_outliers;
  table.gather_features = &gather_features;
  give<kTable, WeightFormat::int8_row>(table);
  give<kTable, WeightFormat::bfloat16>(table);
  give<kTable, WeightFormat::float32>(table);
  give<kTable, WeightFormat::int8_group>(table);
  give<kTable, WeightFormat::int4_group>(table);
  give<kTable, WeightFormat::nf4>(table);
  give<kTable, WeightFormat::fp4>(table);
  return table;
}

}  // namespace

const KernelTable staged_cuda = staged_table<detail::kernels_cuda>();
const KernelTable staged_cuda_sm80 = staged_table<detail::kernels_cuda_sm80>();

int device_major() {
  int devices = 0, major = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return 0;
  require(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "the device");
  return major;
}

}  // namespace kvant::test
