#pragma once

// What the questions about weights with a scale for each group share.

#include <cctype>
#include <optional>
#include <string>
#include <vector>

#include "harness/entries.hpp"
#include "harness/options.hpp"
#include "harness/peer_ggml.hpp"
#include "harness/report.hpp"

namespace kvant::bench {

/// The blocks of GGUF that a format is made of; nothing for the others.
inline std::optional<GgufBlocks> gguf_blocks_of(std::string format) {
  for (char& c : format) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return gguf_blocks_from_name(format);
}

/// Quantized weights in pieces, so that copies of them can be packed quickly.
class GroupWeights {
 public:
  /// @param format  int4, int4-affine, nf4, fp4, int8-group, mxfp4, or a type of GGUF (q4_0 to
  ///                q6_k), whose blocks are random: what they stand for does not change their cost
  GroupWeights(Context& context, const std::string& format, int group, const float* w,
               std::int64_t n, std::int64_t k)
      : n_(n), k_(k), type_(gguf_blocks_of(format)) {
    if (type_) {
      make_blocks();
      return;
    }
    format_ = *weight_format_from_name(format == "int4-affine" ? "int4" : format);
    const auto packed =
        PackedWeights::quantize(context, MatrixView<const float>(w, n, k), format_,
                                {.block = group, .zero_points = format == "int4-affine"});
    block_ = packed.block();
    codes_.resize(static_cast<std::size_t>(n * k));
    if (describe(format_).codes == DType::int8) {
      packed.unpack_rows(
          0, MatrixView<std::int8_t>(reinterpret_cast<std::int8_t*>(codes_.data()), n, k));
    } else {
      packed.unpack_rows(0, MatrixView<std::uint8_t>(codes_.data(), n, k));
    }
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
    if (type_) return PackedWeights::from_blocks(context, *type_, n_, k_, blocks_);
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
  void make_blocks() {
    const GgufBlocksInfo& info = describe(*type_);
    bytes_ = n_ * (k_ / info.elements) * info.bytes;
    blocks_.resize(static_cast<std::size_t>(bytes_));
    std::uint32_t state = 1;
    for (std::byte& byte : blocks_) {
      state = state * 1664525u + 1013904223u;
      byte = static_cast<std::byte>(state >> 24);
    }
    // The halves of a block, which must be numbers: the scale and what may be an offset.
    const std::int64_t scale = *type_ == GgufBlocks::q6_k ? 208 : 0;
    for (std::int64_t at = 0; at < bytes_; at += info.bytes) {
      for (const std::int64_t high : {scale + 1, std::int64_t{3}}) {
        blocks_[static_cast<std::size_t>(at + high)] &= std::byte{0x2F};
      }
    }
  }

  std::int64_t n_, k_;
  std::optional<GgufBlocks> type_;
  WeightFormat format_{};
  std::int64_t block_ = 0;
  std::int64_t bytes_ = 0;
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> zeros_;
  std::vector<std::byte> blocks_;
};

/// A format and the number of weights that share a scale.
struct GroupCase {
  std::string format;
  int group;
};

/// What a run measures: every format with every group; codebooks with their own blocks of 64 alone,
/// unless a single group is asked for; those without a choice once.
inline std::vector<GroupCase> group_cases(const Options& options) {
  std::vector<GroupCase> cases;
  for (const std::string& format : options.formats) {
    if (format == "mxfp4" || gguf_blocks_of(format)) {
      cases.push_back({format, format == "q6_k" ? 16 : 32});
      continue;
    }
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
