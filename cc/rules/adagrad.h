// Adagrad (Duchi, Hazan and Singer, 2011).
#ifndef TF_OPTIM_CC_RULES_ADAGRAD_H_
#define TF_OPTIM_CC_RULES_ADAGRAD_H_

#include "cc/rules/rule.h"

namespace tf_optim {

struct Adagrad : ElementwiseRule {
  static constexpr const char* kName = "Adagrad";
  static constexpr const char* kFormula = R"(
    accumulator += grad^2
    var -= learning_rate * grad / sqrt(accumulator + epsilon))";

  template <class V>
  struct Hyper {
    V epsilon;
  };
  static constexpr const char* kHyperNames[] = {"epsilon"};
  static constexpr Range kHyperRanges[] = {kNotNegative};

  template <class V>
  struct Slots {
    V accumulator;
  };
  static constexpr const char* kSlotNames[] = {"accumulator"};
  static constexpr uint32_t kPositiveSlots = 0b1;

  template <class V>
  struct Coefficients {
    V learning_rate, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    s.accumulator = s.accumulator + g * g;
    return p - c.learning_rate * g / Sqrt(s.accumulator + c.epsilon);
  }

  static constexpr Idle kIdle = Idle::kDecays;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>&) {
    return {V(1)};
  }
};

using AdagradVariants = Variants<Adagrad>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADAGRAD_H_
