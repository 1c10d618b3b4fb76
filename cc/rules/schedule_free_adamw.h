// Schedule-free AdamW: steps from z, gradients at y between z and the mean x of
// all z (Defazio et al., 2024, section 4). The variable is y; as in Keras, all
// steps have the same weight in x.
#ifndef TF_OPTIM_CC_RULES_SCHEDULE_FREE_ADAMW_H_
#define TF_OPTIM_CC_RULES_SCHEDULE_FREE_ADAMW_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct ScheduleFreeAdamW : ElementwiseRule {
  static constexpr const char* kName = "ScheduleFreeAdamW";
  static constexpr const char* kFormula = R"(
    rate = learning_rate * min(t / warmup_steps, 1)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    x = (var - (1 - beta_1) * momentum) / beta_1
    momentum -= rate * grad / (sqrt(velocity / (1 - beta_2^t)) + epsilon)
    momentum -= rate * weight_decay_rate * var
    x += (momentum - x) / t
    var = (1 - beta_1) * momentum + beta_1 * x)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, warmup_steps, weight_decay_rate;
  };
  static constexpr const char* kHyperNames[] = {
      "beta_1", "beta_2", "epsilon", "warmup_steps", "weight_decay_rate"};
  static constexpr Range kHyperRanges[] = {
      kFractionOrOne, kFraction, kNotNegative, kNotNegative, kNotNegative};

  template <class V>
  struct Slots {
    V momentum, velocity;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  // `left` of beta_1 * x, which is var - part * momentum, remains in the new
  // var, beside `share` of the new momentum: beta_1 is divided by nowhere.
  template <class V>
  struct Coefficients {
    V rate, rate_2, of_velocity, epsilon, part, left, share, decay;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V warm = Min(V(1), step.number / h.warmup_steps);
    const V weight = V(1) / step.number;
    const V rate = step.learning_rate * IfPositive(h.warmup_steps, warm, V(1));
    return {rate,
            V(1) - h.beta_2,
            V(1) / WholeOf(h.beta_2, step),
            h.epsilon,
            V(1) - h.beta_1,
            V(1) - weight,
            V(1) - h.beta_1 + weight * h.beta_1,
            rate * h.weight_decay_rate};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    s.velocity = Towards(s.velocity, g * g, c.rate_2);
    const V mean = p - c.part * s.momentum;
    const V root = Sqrt(c.of_velocity * s.velocity) + c.epsilon;
    s.momentum = s.momentum - c.rate * g / root - c.decay * p;
    return c.share * s.momentum + c.left * mean;
  }
};

using ScheduleFreeAdamWVariants = Variants<ScheduleFreeAdamW>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_SCHEDULE_FREE_ADAMW_H_
