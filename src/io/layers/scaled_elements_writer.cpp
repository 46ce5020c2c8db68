#include "io/layers/scaled_elements_writer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/text/quoting.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/float16.hpp"
#include "kvant/float_element.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

/// int8 of the scales that the file's type holds; of finite weights.
QuantizedMatrix quantized_int8(Context& context, DType scale_type, const ConstAnyMatrix& rows) {
  constexpr float kSmallestHalf = 0x1p-24f;
  QuantParams params = choose_params(context, rows, int8_symmetric, per_row);
  params.inv_scale.clear();
  for (float& scale : params.scale) {
    scale = kvant::detail::round_to(scale_type, std::max(scale, kSmallestHalf));
  }
  return quantize(context, rows, params);
}

bool is_finite(const ConstAnyMatrix& rows, std::int64_t row) {
  bool finite = true;
  for (std::int64_t c = 0; c < rows.cols; ++c) {
    finite &=
        std::isfinite(kvant::detail::load_element(rows.data, rows.dtype, row * rows.stride + c));
  }
  return finite;
}

[[noreturn]] void fail_not_finite(const NewLayer& layer, std::int64_t row, bool or_after) {
  throw Error(ErrorCode::not_finite,
              "layer " + in_quotes(layer.name) + ": output " + std::to_string(row) +
                  (or_after ? " or one after it" : "") +
                  " has a weight that is NaN or infinite; keep the layer in float (--skip)");
}

/// e4m3, in the format's own blocks.
PackedWeights quantized_e4m3(Context& context, const NewLayer& layer, DType scale_type,
                             const ConstAnyMatrix& rows) {
  return PackedWeights::quantize(context, rows, layer.format, {.scale_type = scale_type});
}

std::uint64_t blocks_of(std::uint64_t count, std::int64_t size) {
  const auto block = static_cast<std::uint64_t>(size);
  return size == 0 ? 1 : (count + block - 1) / block;
}

template <class T>
void write_scales(const TensorSink& out, const std::string& name, std::uint64_t first,
                  const std::vector<float>& scales) {
  std::vector<T> stored;
  for (const float scale : scales) stored.push_back(T(scale));  // exact
  out(name, first * sizeof(T), std::as_bytes(std::span(stored)));
}

}  // namespace

std::vector<TensorSpec> element_specs(const NewLayer& layer, const char* scales, DType scale_type) {
  const WeightFormatInfo& info = describe(layer.format);
  return {{layer.name + std::string(kWeightSuffix), info.codes, {layer.outputs, layer.inputs}},
          {layer.name + scales,
           scale_type,
           {blocks_of(layer.outputs, info.block_rows), blocks_of(layer.inputs, info.block)}}};
}

void write_element_rows(const KernelTable& kernels, const NewLayer& layer, const char* scales,
                        DType scale_type, std::int64_t first, const ConstAnyMatrix& rows,
                        const TensorSink& out) {
  const WeightFormatInfo& info = describe(layer.format);
  Context context({.executor = inline_executor(), .kernels = &kernels});
  std::vector<float> lines;
  std::vector<std::uint8_t> elements(static_cast<std::size_t>(rows.rows * rows.cols));
  if (layer.format == WeightFormat::int8_row) {
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      if (!is_finite(rows, r)) fail_not_finite(layer, first + r, false);
    }
    const QuantizedMatrix codes = quantized_int8(context, scale_type, rows);
    lines = codes.params().scale;
    codes.unpack_to(MatrixView<std::int8_t>(reinterpret_cast<std::int8_t*>(elements.data()),
                                            rows.rows, rows.cols));
  } else {
    const PackedWeights weights = quantized_e4m3(context, layer, scale_type, rows);
    std::vector<float> line;
    std::vector<std::uint8_t> no_zeros;
    for (std::int64_t r = 0; r < rows.rows; r += info.block_rows) {
      weights.unpack_scales(r, line, no_zeros);
      for (const float scale : line) {
        if (!std::isfinite(scale)) fail_not_finite(layer, first + r, info.block_rows > 1);
      }
      lines.insert(lines.end(), line.begin(), line.end());
    }
    weights.unpack_rows(0, MatrixView<std::uint8_t>(elements.data(), rows.rows, rows.cols));
  }
  const auto at = static_cast<std::uint64_t>(first);
  out(layer.name + std::string(kWeightSuffix), at * layer.inputs,
      std::as_bytes(std::span(elements)));
  const std::string name = layer.name + scales;
  const std::uint64_t first_scale =
      at / static_cast<std::uint64_t>(info.block_rows) * blocks_of(layer.inputs, info.block);
  switch (scale_type) {
    case DType::float16: write_scales<float16>(out, name, first_scale, lines); break;
    case DType::bfloat16: write_scales<bfloat16>(out, name, first_scale, lines); break;
    default: write_scales<float>(out, name, first_scale, lines); break;
  }
}

void round_trip_elements(const KernelTable& kernels, const NewLayer& layer, DType scale_type,
                         MatrixView<const float> rows, MatrixView<float> out) {
  Context context({.executor = inline_executor(), .kernels = &kernels});
  if (layer.format != WeightFormat::int8_row) {
    quantized_e4m3(context, layer, scale_type, rows).dequantize(out);
    return;
  }
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    const MatrixView<const float> row(rows.row_data(r), 1, rows.cols());
    const MatrixView<float> to(out.row_data(r), 1, rows.cols());
    if (is_finite(row, 0)) {
      dequantize(context, quantized_int8(context, scale_type, row), to);
    } else {
      std::fill_n(to.data(), rows.cols(), std::numeric_limits<float>::quiet_NaN());
    }
  }
}

void check_new_elements(const NewLayer& layer) {
  if (layer.block != 0) {
    throw Error(ErrorCode::invalid_argument, std::string(to_string(layer.format)) +
                                                 " has no choice of a block size (" +
                                                 std::to_string(layer.block) + " is asked for)");
  }
  if (layer.outputs == 0 || layer.inputs == 0) {
    throw Error(ErrorCode::unsupported,
                "layer " + in_quotes(layer.name) + " has no weights; keep it in float (--skip)");
  }
}

}  // namespace kvant::io
