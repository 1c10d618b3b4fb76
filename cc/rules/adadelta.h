// Adadelta (Zeiler, 2012).
#ifndef TF_OPTIM_CC_RULES_ADADELTA_H_
#define TF_OPTIM_CC_RULES_ADADELTA_H_

#include "cc/rules/rule.h"

namespace tf_optim {

struct Adadelta : ElementwiseRule {
  static constexpr const char* kName = "Adadelta";
  static constexpr const char* kFormula = R"(
    accumulated_grad = rho * accumulated_grad + (1 - rho) * grad^2
    delta = sqrt(accumulated_delta_var + epsilon) * grad
            / sqrt(accumulated_grad + epsilon)
    accumulated_delta_var = rho * accumulated_delta_var + (1 - rho) * delta^2
    var -= learning_rate * delta)";

  template <class V>
  struct Hyper {
    V rho, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"rho", "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kNotNegative};

  template <class V>
  struct Slots {
    V accumulated_grad, accumulated_delta_var;
  };
  static constexpr const char* kSlotNames[] = {"accumulated_grad",
                                               "accumulated_delta_var"};
  static constexpr uint32_t kPositiveSlots = 0b11;

  template <class V>
  struct Coefficients {
    V learning_rate, rho, one_minus_rho, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.rho, V(1) - h.rho, h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    V& grads = s.accumulated_grad;
    V& deltas = s.accumulated_delta_var;
    grads = c.rho * grads + c.one_minus_rho * (g * g);
    const V delta = Sqrt(deltas + c.epsilon) * g / Sqrt(grads + c.epsilon);
    deltas = c.rho * deltas + c.one_minus_rho * (delta * delta);
    return p - c.learning_rate * delta;
  }

  static constexpr Idle kIdle = Idle::kDecays;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    return {h.rho, h.rho};
  }
};

using AdadeltaVariants = Variants<Adadelta>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADADELTA_H_
