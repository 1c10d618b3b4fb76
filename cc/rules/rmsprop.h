// RMSprop (Hinton, 2012), with momentum, and centered (Graves, 2013).
#ifndef TF_OPTIM_CC_RULES_RMSPROP_H_
#define TF_OPTIM_CC_RULES_RMSPROP_H_

#include "cc/rules/rule.h"

namespace tf_optim {

template <bool with_momentum, bool centered>
struct RMSprop : ElementwiseRule {
  static constexpr const char* kName = "RMSprop";
  static constexpr const char* kFormula = R"(
    velocity = rho * velocity + (1 - rho) * grad^2
    average_gradient = rho * average_gradient + (1 - rho) * grad, if centered
    variance = velocity, or max(velocity - average_gradient^2, 0) if centered
    step = learning_rate * grad / sqrt(variance + epsilon)
    momentum = momentum_rate * momentum + step; step = momentum, if momentum
    var -= step)";

  template <class V>
  struct Hyper {
    V rho, momentum_rate, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"rho", "momentum_rate",
                                                "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative};

  template <class V>
  struct Slots {
    V velocity;
    Optional<V, with_momentum> momentum;
    Optional<V, centered> average_gradient;
  };
  static constexpr const char* kSlotNames[] = {"velocity", "momentum",
                                               "average_gradient"};
  static constexpr uint32_t kPositiveSlots = 0b1;

  static constexpr bool kMayBeCautious = with_momentum;

  template <class V>
  struct Coefficients {
    V learning_rate, rho, one_minus_rho, momentum_rate, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.rho, V(1) - h.rho, h.momentum_rate,
            h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    s.velocity = c.rho * s.velocity + c.one_minus_rho * (g * g);
    V variance = s.velocity;
    if constexpr (centered) {
      V& a = s.average_gradient;
      a = c.rho * a + c.one_minus_rho * g;
      // Rounding can make the difference negative, and its root NaN.
      variance = Max(V(0), s.velocity - a * a);
    }
    const V step = c.learning_rate * g / Sqrt(variance + c.epsilon);
    if constexpr (!with_momentum) return p - step;
    if constexpr (with_momentum) {
      s.momentum = c.momentum_rate * s.momentum + step;
      return p - s.momentum;
    }
  }

  static constexpr Idle kIdle = with_momentum ? Idle::kMoves : Idle::kDecays;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    Slots<V> kept{};
    kept.velocity = h.rho;
    if constexpr (with_momentum) kept.momentum = h.momentum_rate;
    if constexpr (centered) kept.average_gradient = h.rho;
    return kept;
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s, const Coefficients<V>&) {
    return {s.momentum, V(0)};
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept, const Coefficients<V>&) {
    return kept.momentum;
  }
};

using RMSpropVariants = Variants<RMSprop<false, false>, RMSprop<true, false>,
                                 RMSprop<false, true>, RMSprop<true, true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RMSPROP_H_
