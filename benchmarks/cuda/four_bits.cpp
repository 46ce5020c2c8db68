#include "cuda/four_bits.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include <kvant/codebook.hpp>
#include <kvant/float16.hpp>

#include "cuda/ceilings.hpp"

namespace kvant::bench {
namespace {

std::size_t size(std::int64_t bytes) {
  return static_cast<std::size_t>(bytes);
}

NibblePanels panels_of(const FourBits& what, std::int64_t k) {
  return {.nr = 1,
          .kr = 32,
          .align = 16,
          .k_padded = k,
          .group = what.group,
          .scale_bytes = what.format == WeightFormat::int4_group ? 2 : 4,
          .zero_points = what.zero_points};
}

std::vector<unsigned char> host(const std::byte* data, std::size_t bytes) {
  std::vector<unsigned char> copy(bytes);
  require(cudaMemcpy(copy.data(), data, bytes, cudaMemcpyDeviceToHost), "copy");
  return copy;
}

}  // namespace

FourBitProduct::FourBitProduct(Session& session, const FourBits& what, std::int64_t rows,
                               std::int64_t n, std::int64_t k)
    : session_(session),
      what_(what),
      n_(n),
      k_(k),
      panels_(panels_of(what, k)),
      bytes_(size(n * panels_.panel_bytes())),
      copies_(rotation(bytes_)),
      w_(bytes_ * size(copies_)),
      x_(size(rows * k)),
      y_(size(rows * n * 2)),
      scales_(size(std::max(rows, n) * 4)) {
  fill_codes(x_.data(), x_.bytes(), 4, session.stream());
  require(cudaMemsetAsync(scales_.data(), 0x38, scales_.bytes(), session.stream()), "scales");
  // Random codes, then scales and zero points that are numbers.
  fill_codes(w_.data(), w_.bytes(), 3, session.stream());
  require(cudaStreamSynchronize(session.stream()), "random codes");
  const std::int64_t groups = panels_.groups();
  std::vector<unsigned char> header(size(panels_.panel_bytes() - k / 2));
  for (std::int64_t g = 0; g < groups; ++g) {
    const float scale = 0.01f + 0.001f * static_cast<float>(g % 7);
    const float16 half(scale);
    unsigned char* const at = header.data() + panels_.scale_at(0, g * what.group) - k / 2;
    if (panels_.scale_bytes == 2) {
      std::memcpy(at, &half, 2);
    } else {
      std::memcpy(at, &scale, 4);
    }
    if (what.zero_points) {
      header[size(panels_.zero_at(0, g * what.group) - k / 2)] = static_cast<unsigned char>(g % 16);
    }
  }
  std::vector<unsigned char> all;
  for (std::int64_t row = 0; row < n; ++row) all.insert(all.end(), header.begin(), header.end());
  for (int copy = 0; copy < copies_; ++copy) {
    require(cudaMemcpy2D(w_.data() + size(copy) * bytes_ + size(k / 2), size(panels_.panel_bytes()),
                         all.data(), header.size(), header.size(), size(n), cudaMemcpyHostToDevice),
            "scales of groups");
  }
}

GemmArgs FourBitProduct::args(std::int64_t m, int i) const {
  GemmArgs g{};
  g.a = x_.data();
  g.b = w_.data() + size(i % copies_) * bytes_;
  g.nibbles = panels_;
  g.range = {m, n_, k_, 0, m, 0, n_};
  const auto* const scale = reinterpret_cast<const float*>(scales_.data());
  g.epilogue = {.y = y_.data(),
                .y_dtype = DType::bfloat16,
                .y_stride = n_,
                .row_scale = scale,
                .col_scale = nullptr,
                .scale = 1.0f,
                .bias = scale,
                .outliers = {},
                .bias_first = false};
  g.queue = session_.stream();
  return g;
}

bool FourBitProduct::is_right(std::int64_t m) const {
  const auto w = host(w_.data(), bytes_), y = host(y_.data(), size(m * n_ * 2));
  const auto x = host(x_.data(), size(m * k_));
  float scale = 0.0f;
  require(cudaMemcpy(&scale, scales_.data(), 4, cudaMemcpyDeviceToHost), "copy");
  const CodebookTable* const book = table_of(describe(what_.format).codebook);
  for (std::int64_t i = 0; i < 64; ++i) {
    const std::int64_t row = i % m, output = i * (n_ - 1) / 63;
    const unsigned char* const panel = w.data() + output * panels_.panel_bytes();
    double sum = 0, absolute = 0;
    for (std::int64_t k = 0; k < k_; ++k) {
      const int code = panel[panels_.code_at(0, k)] >> panels_.shift_at(k) & 15;
      const int zero = what_.zero_points ? panel[panels_.zero_at(0, k)] : 8;
      const int integer = book != nullptr ? book->integer[code] - book->zero : code - zero;
      float of_group = 0.0f;
      if (panels_.scale_bytes == 2) {
        float16 half;
        std::memcpy(&half, panel + panels_.scale_at(0, k), 2);
        of_group = static_cast<float>(half);
      } else {
        std::memcpy(&of_group, panel + panels_.scale_at(0, k), 4);
        of_group *= book->inverse_unit;
      }
      const double product = static_cast<double>(integer) *
                             static_cast<std::int8_t>(x[size(row * k_ + k)]) *
                             static_cast<double>(of_group);
      sum += product;
      absolute += std::fabs(product);
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, y.data() + (row * n_ + output) * 2, 2);
    const double got = static_cast<double>(static_cast<float>(bfloat16::from_bits(bits)));
    const double want = sum * static_cast<double>(scale) + static_cast<double>(scale);
    const double room = std::fabs(want) / 128 + absolute * static_cast<double>(scale) * 1e-5;
    if (!(std::fabs(got - want) <= room)) return false;
  }
  return true;
}

}  // namespace kvant::bench
