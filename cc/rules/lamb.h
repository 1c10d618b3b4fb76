// Lamb: Adam's step, as long as the variable it changes (You et al., 2020).
#ifndef TF_OPTIM_CC_RULES_LAMB_H_
#define TF_OPTIM_CC_RULES_LAMB_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"
#include "cc/rules/trust.h"

namespace tf_optim {

struct Lamb : ElementwiseRule {
  static constexpr const char* kName = "Lamb";
  static constexpr const char* kFormula = R"(
    momentum += (1 - beta_1) * (grad - momentum)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    step = momentum / (1 - beta_1^t)
           / (sqrt(velocity / (1 - beta_2^t)) + epsilon)
           + weight_decay_rate * var
    ratio = norm(var) / norm(step), or 1 where a norm is 0 or
            layer_adaptation is 0
    var -= learning_rate * ratio * step)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, weight_decay_rate, layer_adaptation;
  };
  static constexpr const char* kHyperNames[] = {
      "beta_1", "beta_2", "epsilon", "weight_decay_rate", "layer_adaptation"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative,
                                           kNotNegative, kFractionOrOne};

  template <class V>
  struct Slots {
    V momentum, velocity;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  template <class V>
  struct Coefficients {
    V learning_rate, rate_1, rate_2, of_momentum, of_velocity, epsilon;
    V decay, adapts;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate,
            V(1) - h.beta_1,
            V(1) - h.beta_2,
            V(1) / WholeOf(h.beta_1, step),
            V(1) / WholeOf(h.beta_2, step),
            h.epsilon,
            h.weight_decay_rate,
            h.layer_adaptation};
  }

  static constexpr Over kMeansOver = Over::kVariable;
  static constexpr bool kMeasureChangesSlots = true;
  template <class V>
  struct Means {
    V var_squared, step_squared;
  };

  template <class V>
  static constexpr Means<V> Measure(V p, V g, Slots<V>& s,
                                    const Coefficients<V>& c) {
    UpdateMoments(g, s, c);
    const V step = StepOf(p, s, c);
    return {p * p, step * step};
  }

  template <class V>
  static constexpr V Update(V p, const Slots<V>& s, const Coefficients<V>& c,
                            const Means<V>& means) {
    const V ratio = Sqrt(means.var_squared) / Sqrt(means.step_squared);
    const V trusted =
        TrustRatio(ratio, means.var_squared, means.step_squared, c.adapts);
    return p - trusted * c.learning_rate * StepOf(p, s, c);
  }

 private:
  template <class V>
  static constexpr V StepOf(V p, const Slots<V>& s, const Coefficients<V>& c) {
    return c.of_momentum * s.momentum /
               (Sqrt(c.of_velocity * s.velocity) + c.epsilon) +
           c.decay * p;
  }
};

using LambVariants = Variants<Lamb>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_LAMB_H_
