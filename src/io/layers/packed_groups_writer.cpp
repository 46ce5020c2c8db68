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

constexpr std::uint64_t kPerWord = 8;  ///< codes of 4 bits in 32

std::uint64_t groups_of(const NewLayer& layer) {
  const auto size = static_cast<std::uint64_t>(group_size_of(layer));
  return (layer.inputs + size - 1) / size;
}

PackedWeights quantized(const KernelTable& kernels, const NewLayer& layer,
                        const ConstAnyMatrix& rows) {
  Context context({.executor = inline_executor(), .kernels = &kernels});
  return PackedWeights::quantize(context, rows, WeightFormat::int4_group,
                                 {.block = group_size_of(layer), .zero_points = layer.zero_points});
}

std::span<const std::byte> bytes_of(const std::vector<std::uint32_t>& words) {
  return std::as_bytes(std::span(words));
}

/// How far left the code of output n goes in a word that holds 8 outputs.
int shift_of(GroupPacking packing, std::uint64_t n) {
  const auto i = static_cast<std::size_t>(n % kPerWord);
  return 4 * (packing == GroupPacking::awq_gemm ? kAwqOrder[i] : static_cast<int>(i));
}

/// Scales and zero points of all groups of `rows` outputs.
struct Groups {
  std::vector<float16> scales;       ///< [group][output]
  std::vector<std::uint32_t> zeros;  ///< [group][output / 8], packed
};

Groups groups_of(const PackedWeights& weights, const NewLayer& layer, GroupPacking packing,
                 std::int64_t first) {
  const std::uint64_t groups = groups_of(layer);
  const auto rows = static_cast<std::uint64_t>(weights.n());
  Groups result;
  result.scales.resize(static_cast<std::size_t>(groups * rows));
  result.zeros.resize(static_cast<std::size_t>(groups * (rows / kPerWord)));
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  for (std::uint64_t r = 0; r < rows; ++r) {
    weights.unpack_scales(static_cast<std::int64_t>(r), scales, zeros);
    for (std::uint64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<std::size_t>(g);
      if (!std::isfinite(scales[at])) {
        throw Error(ErrorCode::not_finite,
                    "layer " + in_quotes(layer.name) + ": output " +
                        std::to_string(static_cast<std::uint64_t>(first) + r) +
                        " has a weight that is NaN or infinite; keep the layer in float (--skip)");
      }
      result.scales[static_cast<std::size_t>(g * rows + r)] = float16(scales[at]);
      const std::uint32_t zero = zeros.empty() ? 8u : zeros[at];
      result.zeros[static_cast<std::size_t>(g * (rows / kPerWord) + r / kPerWord)] |=
          zero << shift_of(packing, r);
    }
  }
  return result;
}

}  // namespace

std::int64_t group_size_of(const NewLayer& layer) noexcept {
  return layer.block != 0 ? layer.block : describe(WeightFormat::int4_group).block;
}

void check_new_groups(const NewLayer& layer, GroupPacking packing) {
  const std::int64_t size = group_size_of(layer);
  if (size < 32 || size % 32 != 0) {
    throw Error(ErrorCode::invalid_argument, "int4: groups of " + std::to_string(size) +
                                                 " inputs; multiples of 32 are possible");
  }
  const auto refuse = [&](std::uint64_t count, const char* what, std::int64_t multiple) {
    throw Error(ErrorCode::unsupported,
                "layer " + in_quotes(layer.name) + " has " + std::to_string(count) + " " + what +
                    ", " + (packing == GroupPacking::gptq ? "GPTQ" : "AWQ") +
                    "'s form needs a multiple of " + std::to_string(multiple) +
                    "; keep it in float (--skip)");
  };
  const std::int64_t inputs = packing == GroupPacking::gptq ? 32 : size;
  if (layer.outputs == 0 || layer.outputs % kPerWord != 0) {
    refuse(layer.outputs, "outputs", static_cast<std::int64_t>(kPerWord));
  }
  if (layer.inputs == 0 || layer.inputs % static_cast<std::uint64_t>(inputs) != 0) {
    refuse(layer.inputs, "inputs", inputs);
  }
}

std::vector<TensorSpec> group_specs(const NewLayer& layer, GroupPacking packing) {
  const std::uint64_t groups = groups_of(layer);
  const std::uint64_t words = (layer.outputs + kPerWord - 1) / kPerWord;
  std::vector<std::uint64_t> codes = {layer.inputs, words};
  if (packing == GroupPacking::gptq) {
    codes = {(layer.inputs + kPerWord - 1) / kPerWord, layer.outputs};
  }
  return {{layer.name + std::string(kPackedCodes), DType::int32, std::move(codes)},
          {layer.name + kPackedZeros, DType::int32, {groups, words}},
          {layer.name + kGroupScales, DType::float16, {groups, layer.outputs}}};
}

void write_group_rows(const KernelTable& kernels, const NewLayer& layer, GroupPacking packing,
                      std::int64_t first, const ConstAnyMatrix& rows, const TensorSink& out) {
  const PackedWeights weights = quantized(kernels, layer, rows);
  const Groups groups = groups_of(weights, layer, packing, first);
  const auto count = static_cast<std::uint64_t>(rows.rows);
  const auto begin = static_cast<std::uint64_t>(first);
  const std::uint64_t words = count / kPerWord;
  const std::uint64_t all_words = layer.outputs / kPerWord;
  for (std::uint64_t g = 0; g < groups_of(layer); ++g) {
    out(layer.name + kGroupScales, (g * layer.outputs + begin) * sizeof(float16),
        std::as_bytes(
            std::span(groups.scales)
                .subspan(static_cast<std::size_t>(g * count), static_cast<std::size_t>(count))));
    out(layer.name + kPackedZeros, (g * all_words + begin / kPerWord) * 4,
        std::as_bytes(
            std::span(groups.zeros)
                .subspan(static_cast<std::size_t>(g * words), static_cast<std::size_t>(words))));
  }
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count * layer.inputs));
  weights.unpack_rows(0, MatrixView<std::uint8_t>(codes.data(), rows.rows, rows.cols));
  const std::string name = layer.name + std::string(kPackedCodes);
  if (packing == GroupPacking::gptq) {
    std::vector<std::uint32_t> line(static_cast<std::size_t>(count));
    for (std::uint64_t k = 0; k < layer.inputs; k += kPerWord) {
      for (std::uint64_t r = 0; r < count; ++r) {
        std::uint32_t word = 0;
        for (std::uint64_t i = 0; i < kPerWord; ++i) {
          word |=
              static_cast<std::uint32_t>(codes[static_cast<std::size_t>(r * layer.inputs + k + i)])
              << (4 * i);
        }
        line[static_cast<std::size_t>(r)] = word;
      }
      out(name, (k / kPerWord * layer.outputs + begin) * 4, bytes_of(line));
    }
    return;
  }
  std::vector<std::uint32_t> line(static_cast<std::size_t>(words));
  for (std::uint64_t k = 0; k < layer.inputs; ++k) {
    std::fill(line.begin(), line.end(), 0u);
    for (std::uint64_t r = 0; r < count; ++r) {
      line[static_cast<std::size_t>(r / kPerWord)] |=
          static_cast<std::uint32_t>(codes[static_cast<std::size_t>(r * layer.inputs + k)])
          << shift_of(packing, r);
    }
    out(name, (k * all_words + begin / kPerWord) * 4, bytes_of(line));
  }
}

void round_trip_groups(const KernelTable& kernels, const NewLayer& layer,
                       MatrixView<const float> rows, MatrixView<float> out) {
  quantized(kernels, layer, rows).dequantize(out);
}

}  // namespace kvant::io
