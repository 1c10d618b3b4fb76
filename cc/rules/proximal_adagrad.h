// Adagrad with l1 and l2 regularization taken exactly, after the step (Duchi
// and Singer, 2009; Duchi, Hazan and Singer, 2011, section 5.1).
#ifndef TF_OPTIM_CC_RULES_PROXIMAL_ADAGRAD_H_
#define TF_OPTIM_CC_RULES_PROXIMAL_ADAGRAD_H_

#include "cc/rules/rule.h"
#include "cc/rules/sign.h"

namespace tf_optim {

struct ProximalAdagrad : ElementwiseRule {
  static constexpr const char* kName = "ProximalAdagrad";
  static constexpr const char* kFormula = R"(
    accumulator += grad^2
    rate = learning_rate / sqrt(accumulator)
    moved = var - rate * grad
    var = sign(moved) * max(abs(moved) - rate * l1, 0) / (1 + rate * l2))";

  template <class V>
  struct Hyper {
    V l1, l2;
  };
  static constexpr const char* kHyperNames[] = {"l1", "l2"};
  static constexpr Range kHyperRanges[] = {kNotNegative, kNotNegative};

  template <class V>
  struct Slots {
    V accumulator;
  };
  static constexpr const char* kSlotNames[] = {"accumulator"};
  static constexpr uint32_t kPositiveSlots = 0b1;

  template <class V>
  struct Coefficients {
    V learning_rate, l1, l2;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.l1, h.l2};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    s.accumulator = s.accumulator + g * g;
    const V rate = c.learning_rate / Sqrt(s.accumulator);
    const V moved = p - rate * g;
    const V left = Max(V(0), Abs(moved) - rate * c.l1);
    return Sign(moved) * left / (V(1) + rate * c.l2);
  }
};

using ProximalAdagradVariants = Variants<ProximalAdagrad>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_PROXIMAL_ADAGRAD_H_
