#pragma once

// What the questions about weights of 4 bits share.

#include <string>
#include <vector>

#include "harness/entries.hpp"
#include "harness/options.hpp"
#include "harness/peer_ggml.hpp"
#include "harness/report.hpp"

namespace kvant::bench {

/// Quantized weights in pieces, so that copies of them can be packed quickly.
class FourBitWeights {
 public:
  /// @param format  int4, int4-affine, nf4, fp4
  FourBitWeights(Context& context, const std::string& format, int group, const float* w,
                 std::int64_t n, std::int64_t k)
      : n_(n), k_(k), codes_(static_cast<std::size_t>(n * k)) {
    format_ = *weight_format_from_name(format == "int4-affine" ? "int4" : format);
    const auto packed =
        PackedWeights::quantize(context, MatrixView<const float>(w, n, k), format_,
                                {.block = group, .zero_points = format == "int4-affine"});
    block_ = packed.block();
    packed.unpack_rows(0, MatrixView<std::uint8_t>(codes_.data(), n, k));
    std::vector<float> scales;
    std::vector<std::uint8_t> zeros;
    for (std::int64_t r = 0; r < n; ++r) {
      packed.unpack_scales(r, scales, zeros);
      scales_.insert(scales_.end(), scales.begin(), scales.end());
      zeros_.insert(zeros_.end(), zeros.begin(), zeros.end());
    }
    bytes_ = static_cast<std::int64_t>(packed.stored_bytes());
  }

  /// A copy of its own. (Blocks must not cross rows.)
  [[nodiscard]] PackedWeights pack(Context& context) const {
    return PackedWeights::from_codes(
        context, {.format = format_,
                  .codes = MatrixView<const std::uint8_t>(codes_.data(), n_, k_),
                  .scales = scales_,
                  .zero_points = zeros_,
                  .block = block_});
  }
  /// Of codes, scales and zero points, without padding.
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::int64_t n_, k_;
  WeightFormat format_{};
  std::int64_t block_ = 0;
  std::int64_t bytes_ = 0;
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> zeros_;
};

/// A format and the number of weights that share a scale.
struct FourBitCase {
  std::string format;
  int group;
};

/// What a run measures: every format with every group; codebooks with their own blocks of 64 alone,
/// unless a single group is asked for.
inline std::vector<FourBitCase> four_bit_cases(const Options& options) {
  std::vector<FourBitCase> cases;
  for (const std::string& format : options.formats) {
    const bool book = format == "nf4" || format == "fp4";
    for (const int group : options.groups) {
      if (!book || group == 64 || options.groups.size() == 1) cases.push_back({format, group});
    }
  }
  return cases;
}

/// ggml's Q4_0 of the same weights, plain and repacked, or a note that it is not here.
inline void add_ggml(std::vector<Entry>& entries, Report& report, double work, const float* w,
                     const Shape& s, int threads, std::int64_t copies) {
  for (const bool repacked : {false, true}) {
    const PeerRun peer = ggml_q4_0(w, s.m, s.n, s.k, repacked, threads, copies);
    if (peer.run) {
      entries.push_back({peer.name, work, peer.run});
    } else {
      report.note_absent(peer.name);
    }
  }
}

}  // namespace kvant::bench
