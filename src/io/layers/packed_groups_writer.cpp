#include "io/layers/packed_groups_writer.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/float16.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

std::uint64_t groups_of(const NewLayer& layer) {
  const auto size = static_cast<std::uint64_t>(group_size_of(layer));
  return (layer.inputs + size - 1) / size;
}

std::uint64_t bits_of(const NewLayer& layer) {
  return static_cast<std::uint64_t>(describe(layer.format).bits);
}

PackedWeights quantized(const KernelTable& kernels, const NewLayer& layer,
                        const ConstAnyMatrix& rows) {
  Context context({.executor = inline_executor(), .kernels = &kernels});
  PackOptions options{.block = group_size_of(layer)};
  if (describe(layer.format).zero_points) options.zero_points = layer.zero_points;
  return PackedWeights::quantize(context, rows, layer.format, options);
}

/// Rounded to nearest. Codes of 8 bits have no zero points in memory; here they are unsigned.
EncodedRows nearest(const KernelTable& kernels, const NewLayer& layer, const ConstAnyMatrix& rows) {
  const PackedWeights weights = quantized(kernels, layer, rows);
  EncodedRows result;
  result.codes.resize(static_cast<std::size_t>(rows.rows * rows.cols));
  const bool eight = bits_of(layer) == 8;
  if (eight) {
    std::vector<std::int8_t> codes(result.codes.size());
    weights.unpack_rows(0, MatrixView<std::int8_t>(codes.data(), rows.rows, rows.cols));
    std::transform(codes.begin(), codes.end(), result.codes.begin(),
                   [](std::int8_t code) { return static_cast<std::uint8_t>(code + 128); });
  } else {
    weights.unpack_rows(0, MatrixView<std::uint8_t>(result.codes.data(), rows.rows, rows.cols));
  }
  const auto middle = static_cast<std::uint8_t>(1u << (bits_of(layer) - 1));
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    weights.unpack_scales(r, scales, zeros);
    if (zeros.empty()) zeros.assign(scales.size(), middle);
    result.scales.insert(result.scales.end(), scales.begin(), scales.end());
    result.zero_points.insert(result.zero_points.end(), zeros.begin(), zeros.end());
  }
  return result;
}

/// Fields of a few bits one after the other, the first in the lowest bits of words of 32.
void put_field(std::uint32_t* words, std::uint64_t step, std::uint64_t index, std::uint64_t bits,
               std::uint32_t field) noexcept {
  const std::uint64_t bit = index * bits;
  const std::uint64_t value = static_cast<std::uint64_t>(field) << (bit % 32);
  words[bit / 32 * step] |= static_cast<std::uint32_t>(value);
  if (value >> 32 != 0) words[(bit / 32 + 1) * step] |= static_cast<std::uint32_t>(value >> 32);
}

/// Where the field of output n is among those of a word's neighbours.
std::uint64_t place_of(GroupPacking packing, std::uint64_t n) {
  if (packing != GroupPacking::awq_gemm) return n;
  return n / 8 * 8 + static_cast<std::uint64_t>(kAwqOrder[static_cast<std::size_t>(n % 8)]);
}

/// Outputs whose fields fill whole words.
std::uint64_t whole_words(std::uint64_t bits) {
  return bits == 3 ? 32 : 32 / bits;
}

}  // namespace

std::int64_t group_size_of(const NewLayer& layer) noexcept {
  if (layer.block == -1) return static_cast<std::int64_t>(layer.inputs);
  return layer.block != 0 ? layer.block : describe(layer.format).block;
}

void check_new_groups(const NewLayer& layer, GroupPacking packing) {
  const std::int64_t size = group_size_of(layer);
  const bool whole_rows = layer.block == -1;
  if (!whole_rows && (size < 32 || size % 32 != 0)) {
    throw Error(ErrorCode::invalid_argument,
                std::string(to_string(layer.format)) + ": groups of " + std::to_string(size) +
                    " inputs; multiples of 32 are possible, and -1, a group for each output");
  }
  const auto refuse = [&](std::uint64_t count, const char* what, std::uint64_t multiple) {
    throw Error(ErrorCode::unsupported,
                "layer " + in_quotes(layer.name) + " has " + std::to_string(count) + " " + what +
                    ", " + (packing == GroupPacking::gptq ? "GPTQ" : "AWQ") +
                    "'s form needs a multiple of " + std::to_string(multiple) +
                    "; keep it in float (--skip)");
  };
  const std::uint64_t inputs =
      packing == GroupPacking::gptq || whole_rows ? 32 : static_cast<std::uint64_t>(size);
  const std::uint64_t outputs = std::max<std::uint64_t>(8, whole_words(bits_of(layer)));
  if (layer.outputs == 0 || layer.outputs % outputs != 0) {
    refuse(layer.outputs, "outputs", outputs);
  }
  if (layer.inputs == 0 || layer.inputs % inputs != 0) refuse(layer.inputs, "inputs", inputs);
}

std::vector<TensorSpec> group_specs(const NewLayer& layer, GroupPacking packing) {
  const std::uint64_t groups = groups_of(layer);
  const std::uint64_t words = layer.outputs * bits_of(layer) / 32;
  std::vector<std::uint64_t> codes = {layer.inputs, words};
  if (packing == GroupPacking::gptq) codes = {layer.inputs * bits_of(layer) / 32, layer.outputs};
  return {{layer.name + std::string(kPackedCodes), DType::int32, std::move(codes)},
          {layer.name + kPackedZeros, DType::int32, {groups, words}},
          {layer.name + kGroupScales, DType::float16, {groups, layer.outputs}}};
}

void write_group_rows(const KernelTable& kernels, const NewLayer& layer, GroupPacking packing,
                      std::int64_t first, const ConstAnyMatrix& rows, const TensorSink& out) {
  write_group_codes(layer, packing, first, nearest(kernels, layer, rows), out);
}

void write_group_codes(const NewLayer& layer, GroupPacking packing, std::int64_t first,
                       const EncodedRows& rows, const TensorSink& out) {
  const std::uint64_t groups = groups_of(layer);
  const std::uint64_t count = rows.codes.size() / layer.inputs;
  const std::uint64_t bits = bits_of(layer);
  const auto begin = static_cast<std::uint64_t>(first);
  const std::uint64_t words = count * bits / 32;
  const std::uint64_t all_words = layer.outputs * bits / 32;
  std::vector<float16> scales(static_cast<std::size_t>(count));
  std::vector<std::uint32_t> line(static_cast<std::size_t>(words));
  for (std::uint64_t g = 0; g < groups; ++g) {
    std::fill(line.begin(), line.end(), 0u);
    for (std::uint64_t r = 0; r < count; ++r) {
      const auto at = static_cast<std::size_t>(r * groups + g);
      if (!std::isfinite(rows.scales[at])) {
        throw Error(ErrorCode::not_finite,
                    "layer " + in_quotes(layer.name) + ": output " + std::to_string(begin + r) +
                        " has a weight that is NaN or infinite; keep the layer in float (--skip)");
      }
      scales[static_cast<std::size_t>(r)] = float16(rows.scales[at]);
      put_field(line.data(), 1, place_of(packing, r), bits, rows.zero_points[at]);
    }
    out(layer.name + kGroupScales, (g * layer.outputs + begin) * sizeof(float16),
        std::as_bytes(std::span(scales)));
    out(layer.name + kPackedZeros, (g * all_words + begin * bits / 32) * 4,
        std::as_bytes(std::span(line)));
  }
  const std::string name = layer.name + std::string(kPackedCodes);
  const auto code_at = [&](std::uint64_t r, std::uint64_t k) {
    return static_cast<std::uint32_t>(rows.codes[static_cast<std::size_t>(r * layer.inputs + k)]);
  };
  if (packing == GroupPacking::gptq) {
    // 32 inputs fill whole words, which lie a row of all outputs apart.
    std::vector<std::uint32_t> block(static_cast<std::size_t>(bits * count));
    for (std::uint64_t k = 0; k < layer.inputs; k += 32) {
      std::fill(block.begin(), block.end(), 0u);
      for (std::uint64_t r = 0; r < count; ++r) {
        for (std::uint64_t i = 0; i < 32; ++i) {
          put_field(block.data() + r, count, i, bits, code_at(r, k + i));
        }
      }
      for (std::uint64_t b = 0; b < bits; ++b) {
        out(name, ((k / 32 * bits + b) * layer.outputs + begin) * 4,
            std::as_bytes(std::span(block).subspan(static_cast<std::size_t>(b * count),
                                                   static_cast<std::size_t>(count))));
      }
    }
    return;
  }
  for (std::uint64_t k = 0; k < layer.inputs; ++k) {
    std::fill(line.begin(), line.end(), 0u);
    for (std::uint64_t r = 0; r < count; ++r) {
      put_field(line.data(), 1, place_of(packing, r), bits, code_at(r, k));
    }
    out(name, (k * all_words + begin * bits / 32) * 4, std::as_bytes(std::span(line)));
  }
}

void round_trip_groups(const KernelTable& kernels, const NewLayer& layer,
                       MatrixView<const float> rows, MatrixView<float> out) {
  quantized(kernels, layer, rows).dequantize(out);
}

}  // namespace kvant::io
