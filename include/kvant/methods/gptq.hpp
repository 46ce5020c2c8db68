#pragma once

/// @file
/// GPTQ (arXiv 2210.17323): codes chosen input by input, each input's rounding error made up for by
/// the weights of the inputs behind it, as the second moments of the activations say.
///
///     const kvant::methods::Gptq method(gram, {.bits = 4, .group = 64});
///     const kvant::methods::GroupCodes codes = method.quantize(context, weights);

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/methods/gram.hpp"
#include "kvant/methods/group_codes.hpp"

namespace kvant::methods {

/// How Gptq goes about it.
struct GptqOptions {
  GroupScheme scheme = {};
  /// Inputs in descending order of their second moment ("act order", "desc_act").
  bool act_order = false;
  /// With act_order: groups stay neighbours, their scales taken from the weights as they were, so
  /// that readers need no index of groups. false: a group is of inputs that were neighbours in the
  /// new order.
  bool static_groups = true;
  RangeSearch search = RangeSearch::none;
  double damp = 0.01;  ///< added to the diagonal, as a share of its mean
};

/// One layer's method: everything that its outputs share, computed once.
class KVANT_API Gptq {
 public:
  /// Inverts the damped second moments (in double): features^3 operations, 8 * features^2 bytes.
  /// Inputs that were always 0 get codes of 0. Where the matrix is not positive definite the
  /// damping is raised, tenfold up to 6 times, and notes() says so.
  /// @throws Error invalid_argument (bits, group, damp), not_finite, out_of_memory
  Gptq(const GramMatrix& gram, const GptqOptions& options);
  ~Gptq();
  Gptq(Gptq&&) noexcept;
  Gptq& operator=(Gptq&&) noexcept;

  /// Codes of weights [any, features]; outputs do not depend on each other.
  /// @throws Error shape_mismatch, not_finite, out_of_memory
  [[nodiscard]] GroupCodes quantize(Context& context, MatrixView<const float> w) const;

  /// The group of each input.
  [[nodiscard]] const std::vector<std::int32_t>& group_of() const noexcept;
  /// The share that was added at last.
  [[nodiscard]] double damp() const noexcept;
  /// Inputs that were always 0.
  [[nodiscard]] std::int64_t dead_inputs() const noexcept;
  /// What a report should say: damping that was raised, dead inputs; empty: nothing.
  [[nodiscard]] std::string notes() const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace kvant::methods
