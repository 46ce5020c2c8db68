#include "io/convert/regroup_jobs.hpp"

#include <cstring>
#include <utility>
#include <vector>

#include "kvant/float16.hpp"

namespace kvant::io {
namespace {

constexpr std::uint64_t kTogether = 8;  ///< codes of 4 bits in a word

/// The codes of 8 inputs, [8][outputs], from the bytes that hold them.
/// @param bytes gptq and awq_gemm: of these inputs; awq_gemv: all
void unpack_inputs(const PackedGroups& from, std::span<const std::byte> bytes, std::int64_t first,
                   std::uint8_t* codes) {
  for (std::int64_t i = 0; i < 8; ++i) {
    std::uint8_t* to = codes + i * from.outputs;
    for (std::int64_t n = 0; n < from.outputs; ++n) {
      unsigned code = 0;
      switch (from.packing) {
        case GroupPacking::gptq: code = packed_field(bytes, n, from.outputs, i, 4); break;
        case GroupPacking::awq_gemm: code = awq_field(bytes, i * (from.outputs / 8), n); break;
        case GroupPacking::awq_gemv:
        case GroupPacking::by_rows:
          code = packed_field(bytes, n * from.row_words(), 1, first + i, 4);
          break;
      }
      to[n] = static_cast<std::uint8_t>(code);
    }
  }
}

/// The words that hold them in the new form.
void pack_inputs(GroupPacking to, std::int64_t outputs, const std::uint8_t* codes,
                 std::vector<std::uint32_t>& words) {
  words.assign(static_cast<std::size_t>(outputs), 0);
  for (std::int64_t i = 0; i < 8; ++i) {
    for (std::int64_t n = 0; n < outputs; ++n) {
      const auto code = static_cast<std::uint32_t>(codes[i * outputs + n]);
      if (to == GroupPacking::gptq) {
        words[static_cast<std::size_t>(n)] |= code << (4 * i);
      } else {
        words[static_cast<std::size_t>(i * (outputs / 8) + n / 8)] |=
            code << (4 * kAwqOrder[static_cast<std::size_t>(n % 8)]);
      }
    }
  }
}

class RegroupCodes final : public TensorJob {
 public:
  RegroupCodes(SourceTensor source, RegroupedLayer layer)
      : TensorJob(source), layer_(std::move(layer)) {}

  [[nodiscard]] std::uint64_t units() const override {
    return static_cast<std::uint64_t>(layer_.from.inputs) / kTogether;
  }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return line_bytes(); }
  [[nodiscard]] bool staged() const override {
    return layer_.from.packing == GroupPacking::awq_gemv;
  }

  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    worker.in.resize(static_cast<std::size_t>(line_bytes()));
    worker.out.resize(static_cast<std::size_t>(line_bytes() * 2));
    auto* const codes = reinterpret_cast<std::uint8_t*>(worker.out.data());
    std::vector<std::uint32_t> words;
    for (std::uint64_t unit = begin; unit < end; ++unit) {
      std::span<const std::byte> bytes = worker.in;
      if (staged()) {
        bytes = {staged_bytes(), static_cast<std::size_t>(source().info->bytes)};
      } else {
        source().read(unit * line_bytes(), worker.in);
      }
      unpack_inputs(layer_.from, bytes, static_cast<std::int64_t>(unit * kTogether), codes);
      pack_inputs(layer_.to, layer_.from.outputs, codes, words);
      out.write(source().info->name, unit * line_bytes(), std::as_bytes(std::span(words)));
    }
  }

 private:
  /// 8 inputs of all outputs, in every form.
  [[nodiscard]] std::uint64_t line_bytes() const {
    return static_cast<std::uint64_t>(layer_.from.outputs) * 4;
  }

  RegroupedLayer layer_;
};

class RegroupZeros final : public TensorJob {
 public:
  RegroupZeros(SourceTensor source, const Checkpoint& checkpoint, const StoredLayer& stored,
               RegroupedLayer layer)
      : TensorJob(source), checkpoint_(checkpoint), stored_(stored), layer_(std::move(layer)) {}

  [[nodiscard]] std::uint64_t units() const override { return 1; }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return source().info->bytes; }

  void run(Worker&, std::uint64_t, std::uint64_t, CheckpointWriter& out) override {
    const auto rows = form_of(checkpoint_, stored_).open(checkpoint_, stored_);
    const auto& groups = dynamic_cast<const PackedGroupRows&>(*rows);
    const std::vector<std::uint32_t> zeros = packed_zeros(groups);
    out.write(source().info->name, 0, std::as_bytes(std::span(zeros)));
    if (layer_.writes_index) {
      const std::vector<std::int32_t> index =
          groups_of_neighbours(layer_.from.inputs, groups.group_size());
      out.write(layer_.name + kGroupIndex, 0, std::as_bytes(std::span(index)));
    }
    if (layer_.from.packing == GroupPacking::awq_gemv) write_scales(groups, out);
  }

 private:
  [[nodiscard]] std::vector<std::uint32_t> packed_zeros(const PackedGroupRows& groups) const {
    const std::int64_t outputs = layer_.from.outputs;
    const std::int64_t words = outputs * layer_.from.bits / 32;
    std::vector<std::uint32_t> packed(static_cast<std::size_t>(layer_.from.groups * words));
    for (std::int64_t g = 0; g < layer_.from.groups; ++g) {
      for (std::int64_t n = 0; n < outputs; ++n) {
        const std::uint64_t zero = static_cast<std::uint64_t>(
            groups.values().zeros[static_cast<std::size_t>(g * outputs + n)] - layer_.zeros_less);
        std::int64_t bit = n * layer_.from.bits;
        if (layer_.to == GroupPacking::awq_gemm) {
          bit = n / 8 * 32 + 4 * kAwqOrder[static_cast<std::size_t>(n % 8)];
        }
        const auto at = static_cast<std::size_t>(g * words + bit / 32);
        const std::uint64_t field = zero << (bit % 32);
        packed[at] |= static_cast<std::uint32_t>(field);
        if (field >> 32 != 0) packed[at + 1] |= static_cast<std::uint32_t>(field >> 32);
      }
    }
    return packed;
  }

  void write_scales(const PackedGroupRows& groups, CheckpointWriter& out) const {
    const DType dtype = checkpoint_.tensor(layer_.name + kGroupScales).info->dtype;
    const auto write = [&]<class T>(T) {
      std::vector<T> scales;
      for (const float scale : groups.values().scales) scales.push_back(T(scale));  // exact
      out.write(layer_.name + kGroupScales, 0, std::as_bytes(std::span(scales)));
    };
    if (dtype == DType::float16) return write(float16{});
    if (dtype == DType::bfloat16) return write(bfloat16{});
    write(float{});
  }

  const Checkpoint& checkpoint_;
  StoredLayer stored_;
  RegroupedLayer layer_;
};

}  // namespace

std::unique_ptr<TensorJob> regroup_codes_job(SourceTensor codes, RegroupedLayer layer) {
  return std::make_unique<RegroupCodes>(codes, std::move(layer));
}

std::unique_ptr<TensorJob> regroup_zeros_job(SourceTensor zeros, const Checkpoint& checkpoint,
                                             const StoredLayer& stored, RegroupedLayer layer) {
  return std::make_unique<RegroupZeros>(zeros, checkpoint, stored, std::move(layer));
}

}  // namespace kvant::io
