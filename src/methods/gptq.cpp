#include "kvant/methods/gptq.hpp"

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kvant/error.hpp"
#include "kvant/parallel_tasks.hpp"
#include "methods/group_range.hpp"

namespace kvant::methods {
namespace {

using Doubles = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::int64_t kBlock = 128;          ///< inputs whose errors are handed on together
constexpr std::int64_t kOutputsPerTask = 16;  ///< outputs
constexpr int kAttempts = 7;

}  // namespace

struct Gptq::State {
  GptqOptions options;
  std::int64_t inputs = 0;
  std::int64_t dead = 0;
  double damp = 0;
  int raised = 0;
  std::vector<std::int64_t> order;     ///< the input at each place
  std::vector<bool> dead_place;        ///< of each place
  std::vector<std::int32_t> group_of;  ///< of each input
  Doubles inverse;  ///< upper Cholesky factor of the inverse of the damped moments, by places

  [[nodiscard]] std::int64_t group_size() const {
    return options.scheme.group == 0 ? std::max<std::int64_t>(1, inputs) : options.scheme.group;
  }
  [[nodiscard]] bool permuted_groups() const {
    return options.act_order && !options.static_groups && options.scheme.group != 0;
  }
  void quantize_rows(MatrixView<const float> w, std::int64_t first, std::int64_t last,
                     GroupCodes& out) const;
};

Gptq::Gptq(const GramMatrix& gram, const GptqOptions& options) {
  check_scheme("Gptq", options.scheme);
  if (!(options.damp >= 0) || std::isinf(options.damp)) {
    throw Error(ErrorCode::invalid_argument,
                "Gptq: damp is " + std::to_string(options.damp) + ", not a number from 0 up");
  }
  check_finite("Gptq: second moments", gram.sums());
  auto state = std::make_unique<State>();
  state->options = options;
  const std::int64_t k = gram.features();
  state->inputs = k;
  state->order.resize(static_cast<std::size_t>(k));
  std::iota(state->order.begin(), state->order.end(), std::int64_t{0});
  const MatrixView<const float> sums = gram.sums();
  const auto moment = [&](std::int64_t i) { return sums(i, i) > 0.0f ? sums(i, i) : 0.0f; };
  if (options.act_order) {
    std::stable_sort(state->order.begin(), state->order.end(),
                     [&](std::int64_t a, std::int64_t b) { return moment(a) > moment(b); });
  }
  Doubles h(k, k);
  state->dead_place.resize(static_cast<std::size_t>(k));
  for (std::int64_t i = 0; i < k; ++i) {
    const std::int64_t from = state->order[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < k; ++j) {
      h(i, j) = static_cast<double>(sums(from, state->order[static_cast<std::size_t>(j)]));
    }
    if (moment(from) == 0.0f) {
      h.row(i).setZero();
      h(i, i) = 1.0;
      state->dead_place[static_cast<std::size_t>(i)] = true;
      ++state->dead;
    }
  }
  for (std::int64_t i = 0; i < k; ++i) {
    if (!state->dead_place[static_cast<std::size_t>(i)]) continue;
    for (std::int64_t j = 0; j < k; ++j) {
      if (j != i) h(j, i) = 0.0;
    }
  }
  state->damp = options.damp;
  if (k > 0) {
    const double mean = h.diagonal().mean();
    for (int attempt = 0;; ++attempt) {
      Doubles damped = h;
      damped.diagonal().array() += state->damp * mean;
      const Eigen::LLT<Eigen::Ref<Doubles>> factor(damped);  // in place
      bool good = factor.info() == Eigen::Success;
      if (good) {
        state->inverse.setIdentity(k, k);
        factor.solveInPlace(state->inverse);
        // Rounding leaves it not quite symmetric; the factor reads one half.
        const Eigen::LLT<Eigen::Ref<Doubles>, Eigen::Upper> upper(state->inverse);
        good = upper.info() == Eigen::Success && state->inverse.diagonal().allFinite();
      }
      if (good) break;
      if (attempt + 1 == kAttempts) {
        throw Error(ErrorCode::not_finite, "Gptq: second moments of " + std::to_string(k) +
                                               " inputs are not positive definite even with damp " +
                                               std::to_string(state->damp) +
                                               "; calibrate with more text");
      }
      state->damp = std::max(state->damp, 1e-3) * 10.0;
      ++state->raised;
    }
  }
  state->group_of.resize(static_cast<std::size_t>(k));
  for (std::int64_t place = 0; place < k; ++place) {
    const std::int64_t input = state->order[static_cast<std::size_t>(place)];
    state->group_of[static_cast<std::size_t>(input)] =
        static_cast<std::int32_t>((state->permuted_groups() ? place : input) / state->group_size());
  }
  state_ = std::move(state);
}

Gptq::~Gptq() = default;
Gptq::Gptq(Gptq&&) noexcept = default;
Gptq& Gptq::operator=(Gptq&&) noexcept = default;

void Gptq::State::quantize_rows(MatrixView<const float> w, std::int64_t first, std::int64_t last,
                                GroupCodes& out) const {
  const std::int64_t rows = last - first;
  const std::int64_t size = group_size();
  const int highest = options.scheme.highest();
  Doubles weights(rows, inputs);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = w.row_data(first + r);
    for (std::int64_t i = 0; i < inputs; ++i) {
      weights(r, i) = dead_place[static_cast<std::size_t>(i)]
                          ? 0.0
                          : static_cast<double>(from[order[static_cast<std::size_t>(i)]]);
    }
  }
  const auto keep = [&](std::int64_t r, std::int64_t group, const GroupRange& range) {
    const auto at = static_cast<std::size_t>((first + r) * out.groups + group);
    out.scales[at] = range.scale;
    out.zero_points[at] = static_cast<std::uint8_t>(range.zero);
  };
  const auto range_at = [&](std::int64_t r, std::int64_t group) {
    const auto at = static_cast<std::size_t>((first + r) * out.groups + group);
    return GroupRange{out.scales[at], out.zero_points[at]};
  };
  // Scales that are known beforehand: of an output as a whole, and of groups that stay neighbours
  // while their inputs are taken in another order.
  const bool known = options.scheme.group == 0 || (options.act_order && options.static_groups);
  if (known) {
    std::vector<double> row(static_cast<std::size_t>(inputs));
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(w.row_data(first + r), inputs, row.begin());
      // Groups do not make room for inputs that are always 0; one scale for all does (as peers).
      for (std::int64_t i = 0; i < inputs && options.scheme.group != 0; ++i) {
        if (dead_place[static_cast<std::size_t>(i)]) {
          row[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = 0.0;
        }
      }
      for (std::int64_t g = 0; g < out.groups; ++g) {
        const std::int64_t begin = g * size;
        keep(r, g,
             range_of(row.data() + begin, std::min(inputs, begin + size) - begin, 1, options.scheme,
                      options.search));
      }
    }
  }
  Doubles block;
  Doubles errors;
  for (std::int64_t begin = 0; begin < inputs; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, inputs - begin);
    block = weights.middleCols(begin, count);
    errors.resize(rows, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t place = begin + i;
      const std::int64_t input = order[static_cast<std::size_t>(place)];
      const std::int32_t group = group_of[static_cast<std::size_t>(input)];
      if (!known && place % size == 0) {
        // Of the weights as the blocks before left them (this block's own corrections are not in
        // yet): what the authors' program does.
        for (std::int64_t r = 0; r < rows; ++r) {
          keep(r, group,
               range_of(weights.data() + r * inputs + place, std::min(size, inputs - place), 1,
                        options.scheme, options.search));
        }
      }
      const double pivot = inverse(place, place);
      for (std::int64_t r = 0; r < rows; ++r) {
        const GroupRange range = range_at(r, group);
        const double value = block(r, i);
        const std::int32_t code = range.code(value, highest);
        out.codes[static_cast<std::size_t>((first + r) * inputs + input)] =
            static_cast<std::uint8_t>(code);
        errors(r, i) = (value - range.value(code)) / pivot;
      }
      block.rightCols(count - i).noalias() -=
          errors.col(i) * inverse.row(place).segment(place, count - i);
    }
    const std::int64_t behind = inputs - begin - count;
    if (behind > 0) {
      weights.rightCols(behind).noalias() -=
          errors * inverse.block(begin, begin + count, count, behind);
    }
  }
}

GroupCodes Gptq::quantize(Context& context, MatrixView<const float> w) const {
  if (w.cols() != state_->inputs) {
    throw Error(ErrorCode::shape_mismatch, "Gptq: w has " + std::to_string(w.cols()) +
                                               " inputs, the second moments are of " +
                                               std::to_string(state_->inputs));
  }
  check_finite("Gptq: w", w);
  GroupCodes result;
  result.outputs = w.rows();
  result.inputs = w.cols();
  result.groups = state_->options.scheme.groups(w.cols());
  result.codes.resize(static_cast<std::size_t>(w.rows() * w.cols()));
  result.scales.resize(static_cast<std::size_t>(w.rows() * result.groups));
  result.zero_points.resize(result.scales.size());
  result.group_of = state_->group_of;
  const std::int64_t tasks = (w.rows() + kOutputsPerTask - 1) / kOutputsPerTask;
  parallel_tasks(context.executor(), tasks, [&](std::int64_t task) {
    const std::int64_t first = task * kOutputsPerTask;
    state_->quantize_rows(w, first, std::min(w.rows(), first + kOutputsPerTask), result);
  });
  return result;
}

const std::vector<std::int32_t>& Gptq::group_of() const noexcept {
  return state_->group_of;
}
double Gptq::damp() const noexcept {
  return state_->damp;
}
std::int64_t Gptq::dead_inputs() const noexcept {
  return state_->dead;
}

std::string Gptq::notes() const {
  std::string text;
  if (state_->raised > 0) {
    text = "damping was raised from " + std::to_string(state_->options.damp) + " to " +
           std::to_string(state_->damp) + ": the second moments were not positive definite";
  }
  if (state_->dead > 0) {
    text += (text.empty() ? "" : "; ") + std::to_string(state_->dead) + " of " +
            std::to_string(state_->inputs) + " inputs were always 0";
  }
  return text;
}

}  // namespace kvant::methods
