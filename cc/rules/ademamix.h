// AdEMAMix: Adam with a second, slow momentum (Pagliardini et al., 2024,
// algorithm 1). Its decay and its share grow over the first steps; both come
// from outside, as the learning rate does.
#ifndef TF_OPTIM_CC_RULES_ADEMAMIX_H_
#define TF_OPTIM_CC_RULES_ADEMAMIX_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct AdEMAMix : ElementwiseRule {
  static constexpr const char* kName = "AdEMAMix";
  static constexpr const char* kFormula = R"(
    momentum += (1 - beta_1) * (grad - momentum)
    slow_momentum += (1 - slow_beta) * (grad - slow_momentum)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    mixed = momentum / (1 - beta_1^t) + slow_share * slow_momentum
    var -= learning_rate * mixed / (sqrt(velocity / (1 - beta_2^t)) + epsilon)

with slow_beta and slow_share those of this step)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, slow_beta, slow_share;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon",
                                                "slow_beta", "slow_share"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative,
                                           kFraction, kNotNegative};
  static constexpr size_t kHyperPerStep = 2;

  template <class V>
  struct Slots {
    V momentum, velocity, slow_momentum;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity",
                                               "slow_momentum"};
  static constexpr uint32_t kPositiveSlots = 0b010;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V rate_1, rate_2, slow_rate, of_momentum, of_slow, of_velocity, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {V(1) - h.beta_1,
            V(1) - h.beta_2,
            V(1) - h.slow_beta,
            step.learning_rate / WholeOf(h.beta_1, step),
            step.learning_rate * h.slow_share,
            V(1) / WholeOf(h.beta_2, step),
            h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    UpdateMoments(g, s, c);
    s.slow_momentum = Towards(s.slow_momentum, g, c.slow_rate);
    const V mixed = c.of_momentum * s.momentum + c.of_slow * s.slow_momentum;
    return p - mixed / (Sqrt(c.of_velocity * s.velocity) + c.epsilon);
  }
};

using AdEMAMixVariants = Variants<AdEMAMix>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADEMAMIX_H_
