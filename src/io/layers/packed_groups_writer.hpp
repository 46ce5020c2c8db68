#pragma once

// Writing what GPTQ's and AWQ's forms share: codes of a few bits, rounded to nearest or chosen by
// others, with a scale and a zero point for each group of an output's inputs.

#include <cstdint>
#include <vector>

#include "io/layers/packed_groups.hpp"
#include "io/layers/start_layer.hpp"

namespace kvant::io {

/// Inputs that share a scale.
/// All inputs where an output is one group (a block of -1).
[[nodiscard]] std::int64_t group_size_of(const NewLayer& layer) noexcept;

/// @param packing gptq or awq_gemm
/// @throws Error unsupported, invalid_argument: a shape or group that the form cannot have
void check_new_groups(const NewLayer& layer, GroupPacking packing);

/// NAME.qweight, .qzeros and .scales.
[[nodiscard]] std::vector<TensorSpec> group_specs(const NewLayer& layer, GroupPacking packing);

/// As StoredFormat::write_codes; the rows fill whole words of zero points.
void write_group_codes(const NewLayer& layer, GroupPacking packing, std::int64_t first,
                       const EncodedRows& rows, const TensorSink& out);

/// As StoredFormat::write_rows: the nearest codes.
void write_group_rows(const KernelTable& kernels, const NewLayer& layer, GroupPacking packing,
                      std::int64_t first, const ConstAnyMatrix& rows, const TensorSink& out);

/// As StoredFormat::round_trip.
void round_trip_groups(const KernelTable& kernels, const NewLayer& layer,
                       MatrixView<const float> rows, MatrixView<float> out);

/// What the two forms have in common as forms.
class PackedGroupsFormat : public StoredFormat {
 public:
  [[nodiscard]] std::string_view codes() const override { return kPackedCodes; }
  [[nodiscard]] bool by_rows() const override { return false; }  // gemv's alone are
  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::int4_group;
  }
  void check_new(const NewLayer& layer) const override { check_new_groups(layer, written_); }
  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float> /*collected*/,
                  const TensorSink& out) const override {
    write_group_rows(kernels, layer, written_, first, rows, out);
  }
  void write_codes(const NewLayer& layer, std::int64_t first, const EncodedRows& rows,
                   const TensorSink& out) const override {
    write_group_codes(layer, written_, first, rows, out);
  }
  void round_trip(const KernelTable& kernels, const NewLayer& layer, std::int64_t /*first*/,
                  MatrixView<const float> rows, std::span<const float> /*collected*/,
                  MatrixView<float> out) const override {
    round_trip_groups(kernels, layer, rows, out);
  }
  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    return group_specs(layer, written_);
  }

 protected:
  explicit PackedGroupsFormat(GroupPacking written) : written_(written) {}
  /// NAME of NAME.qweight.
  static std::string layer_of(const TensorInfo& weight) {
    return io::layer_of(weight, kPackedCodes);
  }

 private:
  GroupPacking written_;
};

}  // namespace kvant::io
