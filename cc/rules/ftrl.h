// Follow the regularized leader, proximal (McMahan et al., 2013), with
// shrinkage and beta as in TensorFlow.
#ifndef TF_OPTIM_CC_RULES_FTRL_H_
#define TF_OPTIM_CC_RULES_FTRL_H_

#include "cc/rules/rule.h"

namespace tf_optim {

struct Ftrl : ElementwiseRule {
  static constexpr const char* kName = "Ftrl";
  static constexpr const char* kFormula = R"(
    q = -learning_rate_power
    grown = accumulator + grad^2
    linear += grad + 2 * l2_shrinkage * var
              - (grown^q - accumulator^q) / learning_rate * var
    accumulator = grown
    quadratic = grown^q / learning_rate + 2 * l2 + beta / learning_rate
    var = (clip(linear, -l1, l1) - linear) / quadratic)";

  template <class V>
  struct Hyper {
    V learning_rate_power, l1, l2, l2_shrinkage, beta;
  };
  static constexpr const char* kHyperNames[] = {"learning_rate_power", "l1",
                                                "l2", "l2_shrinkage", "beta"};
  static constexpr Range kHyperRanges[] = {
      kNotPositive, kNotNegative, kNotNegative, kNotNegative, kNotNegative};

  template <class V>
  struct Slots {
    V accumulator, linear;
  };
  static constexpr const char* kSlotNames[] = {"accumulator", "linear"};
  static constexpr uint32_t kPositiveSlots = 0b1;

  template <class V>
  struct Coefficients {
    V learning_rate, power, l1, twice_l2, twice_shrinkage;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, V(0) - h.learning_rate_power, h.l1,
            V(2) * h.l2 + h.beta / step.learning_rate, V(2) * h.l2_shrinkage};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V grown = s.accumulator + g * g;
    const V root = Pow(grown, c.power);
    const V growth = (root - Pow(s.accumulator, c.power)) / c.learning_rate;
    s.linear = s.linear + (g + c.twice_shrinkage * p - growth * p);
    s.accumulator = grown;
    return (Clipped(s.linear, c.l1) - s.linear) /
           (root / c.learning_rate + c.twice_l2);
  }

  // Without a gradient only shrinkage moves `linear`, and the variable follows
  // from it and the step's learning rate.
  static constexpr Idle kIdle = Idle::kLast;
  template <class V>
  static constexpr bool IdleIsLast(const Hyper<V>& h) {
    return h.l2_shrinkage == V(0);
  }
};

using FtrlVariants = Variants<Ftrl>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_FTRL_H_
