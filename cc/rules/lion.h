// Lion: the sign of a momentum (Chen et al., 2023).
#ifndef TF_OPTIM_CC_RULES_LION_H_
#define TF_OPTIM_CC_RULES_LION_H_

#include "cc/rules/rule.h"
#include "cc/rules/sign.h"

namespace tf_optim {

struct Lion : ElementwiseRule {
  static constexpr const char* kName = "Lion";
  static constexpr const char* kFormula = R"(
    var -= learning_rate * sign(beta_1 * momentum + (1 - beta_1) * grad)
    momentum = beta_2 * momentum + (1 - beta_2) * grad)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2"};
  static constexpr Range kHyperRanges[] = {kFractionOrOne, kFractionOrOne};

  template <class V>
  struct Slots {
    V momentum;
  };
  static constexpr const char* kSlotNames[] = {"momentum"};

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V learning_rate, beta_1, rate_1, beta_2, rate_2;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.beta_1, V(1) - h.beta_1, h.beta_2,
            V(1) - h.beta_2};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V mixed = c.beta_1 * s.momentum + c.rate_1 * g;
    s.momentum = c.beta_2 * s.momentum + c.rate_2 * g;
    return p - c.learning_rate * Sign(mixed);
  }

  static constexpr Idle kIdle = Idle::kMoves;
  static constexpr bool kIdleEndsAtZero = true;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    return {h.beta_2};
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s,
                                      const Coefficients<V>& first) {
    return {Sign(first.beta_1 * s.momentum), V(0)};
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>&, const Coefficients<V>& step) {
    return step.learning_rate;
  }
};

using LionVariants = Variants<Lion>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_LION_H_
