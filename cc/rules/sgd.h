// Stochastic gradient descent, with momentum (Polyak, 1964), looking ahead
// (Nesterov, 1983, in the form of Sutskever et al., 2013).
#ifndef TF_OPTIM_CC_RULES_SGD_H_
#define TF_OPTIM_CC_RULES_SGD_H_

#include "cc/rules/rule.h"

namespace tf_optim {

template <bool with_momentum, bool nesterov>
struct SGD : ElementwiseRule {
  static constexpr const char* kName = "SGD";
  static constexpr const char* kFormula = R"(
    step = -learning_rate * grad
    momentum = momentum_rate * momentum + step; step = momentum, if momentum
    step = momentum_rate * momentum - learning_rate * grad, if nesterov too
    var += step)";
  static constexpr std::array<const char*, 1> kFlagNames = {"nesterov"};
  static constexpr uint32_t kFlags = nesterov;

  template <class V>
  struct Hyper {
    V momentum_rate;
  };
  static constexpr const char* kHyperNames[] = {"momentum_rate"};
  static constexpr Range kHyperRanges[] = {kFractionOrOne};

  template <class V>
  struct Slots {
    Optional<V, with_momentum> momentum;
  };
  static constexpr const char* kSlotNames[] = {"momentum"};

  static constexpr bool kMayBeCautious = with_momentum;

  template <class V>
  struct Coefficients {
    V learning_rate, momentum_rate;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.momentum_rate};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V step = c.learning_rate * g;
    if constexpr (!with_momentum) return p - step;
    if constexpr (with_momentum) {
      s.momentum = c.momentum_rate * s.momentum - step;
      if constexpr (!nesterov) return p + s.momentum;
      return p + (c.momentum_rate * s.momentum - step);
    }
  }

  static constexpr Idle kIdle = with_momentum ? Idle::kMoves : Idle::kDecays;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    Slots<V> kept{};
    if constexpr (with_momentum) kept.momentum = h.momentum_rate;
    return kept;
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s, const Coefficients<V>&) {
    return {s.momentum, V(0)};
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept,
                              const Coefficients<V>& step) {
    const V ahead = nesterov ? step.momentum_rate : V(1);
    return V(0) - ahead * kept.momentum;
  }
};

// Without momentum there is nothing to look ahead along.
using SGDVariants = Variants<SGD<false, false>, SGD<true, false>,
                             SGD<false, true>, SGD<true, true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_SGD_H_
