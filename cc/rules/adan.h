// Adan: Nesterov's momentum from differences of gradients (Xie et al., 2022,
// algorithm 1), with the decays written as Adam's.
#ifndef TF_OPTIM_CC_RULES_ADAN_H_
#define TF_OPTIM_CC_RULES_ADAN_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct Adan : ElementwiseRule {
  static constexpr const char* kName = "Adan";
  static constexpr const char* kFormula = R"(
    change = grad - previous_gradient, 0 in the first step
    momentum += (1 - beta_1) * (grad - momentum)
    difference += (1 - beta_2) * (change - difference)
    velocity += (1 - beta_3) * ((grad + beta_2 * change)^2 - velocity)
    previous_gradient = grad
    ahead = momentum / (1 - beta_1^t) + beta_2 * difference / (1 - beta_2^t)
    var -= learning_rate * ahead / (sqrt(velocity / (1 - beta_3^t)) + epsilon))";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, beta_3, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "beta_3",
                                                "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kFraction,
                                           kNotNegative};

  template <class V>
  struct Slots {
    V momentum, difference, velocity, previous_gradient;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "difference",
                                               "velocity", "previous_gradient"};
  static constexpr uint32_t kPositiveSlots = 0b100;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V rate_1, rate_2, rate_3, beta_2, has_previous;
    V of_momentum, of_difference, of_velocity, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V rate = step.learning_rate;
    return {V(1) - h.beta_1,
            V(1) - h.beta_2,
            V(1) - h.beta_3,
            h.beta_2,
            step.number - V(1),
            rate / WholeOf(h.beta_1, step),
            rate * h.beta_2 / WholeOf(h.beta_2, step),
            V(1) / WholeOf(h.beta_3, step),
            h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V change = IfPositive(c.has_previous, g - s.previous_gradient, V(0));
    const V ahead = g + c.beta_2 * change;
    s.momentum = Towards(s.momentum, g, c.rate_1);
    s.difference = Towards(s.difference, change, c.rate_2);
    s.velocity = Towards(s.velocity, ahead * ahead, c.rate_3);
    s.previous_gradient = g;
    const V step = c.of_momentum * s.momentum + c.of_difference * s.difference;
    return p - step / (Sqrt(c.of_velocity * s.velocity) + c.epsilon);
  }
};

using AdanVariants = Variants<Adan>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADAN_H_
