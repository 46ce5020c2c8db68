// Linear's forward pass, whole and in two stages.

#include <new>
#include <string>

#include "kvant/core/number_text.hpp"
#include "kvant/linear.hpp"
#include "ops/linear/linear_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

namespace {

void check_kernels(const char* who, const PackedWeights& weights, const Context& context) {
  if (weights.fits(context.kernels())) return;
  fail(ErrorCode::unsupported, std::string(who) + ": the weights are packed for \"" +
                                   std::string(weights.packed_for()) + "\", the context runs \"" +
                                   context.kernels().name +
                                   "\"; build the layer with the same context");
}

void check_output(const char* who, const AnyMatrix& y, std::int64_t rows, std::int64_t cols) {
  check_float(who, "y", y);
  check_writable(who, "y", y);
  check_result_shape(who, y, rows, cols);
}

void check_columns(const char* who, const ConstAnyMatrix& x, std::int64_t inputs) {
  if (x.cols == inputs) return;
  fail(ErrorCode::shape_mismatch, std::string(who) + ": x has " + std::to_string(x.cols) +
                                      " columns, the layer takes " + std::to_string(inputs) +
                                      " inputs");
}

/// A batch made by one's rules for a layer with the other's; null: of floats as they are.
void check_same_rules(const char* who, const ActivationRules* from, const ActivationRules* own) {
  if (from == own || (from != nullptr && own != nullptr && from->same_as(*own))) return;
  const auto text = [](const ActivationRules* rules) {
    if (rules == nullptr) return std::string("floats as they are");
    if (rules->is_int15()) return std::string("int15 arithmetic");
    if (rules->is_static()) {
      return std::to_string(rules->static_params->size()) + " static scales, the first " +
             number_text(static_cast<double>(rules->static_params->scale[0]));
    }
    return std::string(to_string(rules->options.activation_type)) + ", threshold " +
           std::to_string(rules->options.threshold) + ", " + std::to_string(rules->kept()) +
           " kept columns";
  };
  fail(ErrorCode::invalid_argument, std::string(who) +
                                        ": the activations were quantized with other options (" +
                                        text(from) + ") than the layer's (" + text(own) + ")");
}

}  // namespace

void Linear::forward(ConstAnyMatrix x, AnyMatrix y) const {
  forward(default_context(), x, y);
}

void Linear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  forward_as("Linear::forward", context, x, y);
}

void Linear::forward_as(const char* who, Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  if (adapter_ != nullptr) {
    forward_adapted(who, context, x, y);
    return;
  }
  at_border(who, [&] {
    const ContextUse use(who, context);
    check_float(who, "x", x);
    check_float(who, "y", y);
    check_columns(who, x, in_features());
    check_output(who, y, x.rows, out_features());
    if (overlap(x, y)) fail(ErrorCode::invalid_argument, std::string(who) + ": y overlaps x");
    check_kernels(who, weights(), context);
    if (y.rows == 0 || y.cols == 0) return;
    check_reachable(who, "x", x, context);
    check_reachable(who, "y", y, context);
    const Activations batch = state_->prepare(who, context, context.workspace(), x);
    multiply(context, batch, batch.are_codes() ? state_->rules.get() : nullptr, state_->weights, y);
  });
}

Status Linear::try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept {
  try {
    forward(context, x, y);
    return {};
  } catch (const Error& error) {
    return {error.code()};
  } catch (const std::bad_alloc&) {  // no memory left for the message
    return {ErrorCode::out_of_memory};
  } catch (...) {  // an Executor of the caller's
    return {ErrorCode::foreign_exception};
  }
}

void Linear::quantize_activations(Context& context, ConstAnyMatrix x,
                                  QuantizedActivations& into) const {
  constexpr const char* kWho = "Linear::quantize_activations";
  at_border(kWho, [&] {
    const ContextUse use(kWho, context);
    check_float(kWho, "x", x);
    check_columns(kWho, x, in_features());
    check_reachable(kWho, "x", x, context);
    if (into.state_ == nullptr) into.state_ = std::make_unique<QuantizedActivations::State>();
    QuantizedActivations::State& to = *into.state_;
    prepare_memory(to.memory, context);
    to.batch = {};
    to.rules = nullptr;
    if (state_ == nullptr) return;
    to.batch = state_->prepare(kWho, context, to.memory, x);
    to.rules = state_->rules_of(to.batch.are_codes());
  });
}

void Linear::forward(Context& context, const QuantizedActivations& x, AnyMatrix y) const {
  forward_blocks(context, x, y, 0, 0);
}

/// y's rows of some row blocks of the batch; {0, 0}: all.
void Linear::forward_blocks(Context& context, const QuantizedActivations& x, AnyMatrix y,
                            std::int64_t begin, std::int64_t end) const {
  constexpr const char* kWho = "Linear::forward";
  at_border(kWho, [&] {
    const ContextUse use(kWho, context);
    if (adapter_ != nullptr) {
      fail(ErrorCode::invalid_argument, std::string(kWho) +
                                            ": the layer has an adapter, which reads x itself, not "
                                            "quantized activations; call forward(x, y)");
    }
    if (x.cols() != in_features()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": the activations have " +
                                          std::to_string(x.cols()) + " columns, the layer takes " +
                                          std::to_string(in_features()) + " inputs");
    }
    check_output(kWho, y, x.rows(), out_features());
    check_kernels(kWho, weights(), context);
    if (y.rows == 0 || y.cols == 0) return;
    check_reachable(kWho, "y", y, context);
    const GemmKernels& kernels = state_->kernels(context.kernels());
    const QuantizedActivations::State& from = *x.state_;
    const bool integers = kernels.gather_columns != nullptr;
    if (!from.batch.kernels.same_activations(kernels) || integers != from.batch.are_codes()) {
      fail(ErrorCode::unsupported, std::string(kWho) +
                                       ": the activations were made for other kernels or for a "
                                       "format of another kind than " +
                                       std::string(to_string(format())));
    }
    check_same_rules(kWho, from.rules.get(), state_->rules_of(integers).get());
    multiply(context, from.batch, integers ? state_->rules.get() : nullptr, state_->weights, y,
             {begin, end});
  });
}

bool Linear::runs_on(const Context& context) const noexcept {
  if (!weights().fits(context.kernels())) return false;
  return context.memory() == nullptr || weights().n() == 0 ||
         !is_widened(context.kernels(), weights(), options().arithmetic);
}

bool Linear::shares_activations_with(const Linear& other) const noexcept {
  if (state_ == nullptr || other.state_ == nullptr) return false;
  if (adapter_ != nullptr || other.adapter_ != nullptr) return false;
  const PackedWeights& mine = weights();
  const PackedWeights& theirs = other.weights();
  if (mine.k() != theirs.k() || mine.n() == 0 || theirs.n() == 0) return false;
  const Arithmetic arithmetic = options().arithmetic;
  const bool integers = multiplied_as_integers(mine, arithmetic);
  if (integers != multiplied_as_integers(theirs, other.options().arithmetic)) return false;
  if (!integers) {
    const auto rules = state_->rules_of(false);
    const auto others = other.state_->rules_of(false);
    const bool same =
        rules == nullptr || others == nullptr ? rules == others : rules->same_as(*others);
    return same && mine.format() == theirs.format() && mine.layout() == theirs.layout();
  }
  return mine.state().kernels.same_activations(theirs.state().kernels) &&
         state_->rules->same_as(*other.state_->rules);
}

}  // namespace kvant
