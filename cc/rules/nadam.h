// Nadam: Adam that looks ahead (Dozat, 2016). The momentum of step t, mu_t,
// grows towards beta_1; it and the product of all so far are known before the
// step and come from outside, as the learning rate does.
#ifndef TF_OPTIM_CC_RULES_NADAM_H_
#define TF_OPTIM_CC_RULES_NADAM_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct Nadam : ElementwiseRule {
  static constexpr const char* kName = "Nadam";
  static constexpr const char* kFormula = R"(
    momentum += (1 - beta_1) * (grad - momentum)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    ahead = mu_next * momentum / (1 - mu_product * mu_next)
            + (1 - mu) * grad / (1 - mu_product)
    var -= learning_rate * ahead / (sqrt(velocity / (1 - beta_2^t)) + epsilon)

with mu and mu_next the momentum of this step and of the next,
beta_1 * (1 - 0.5 * 0.96^t), and mu_product the product of mu up to this step)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, mu, mu_next, mu_product;
  };
  static constexpr const char* kHyperNames[] = {
      "beta_1", "beta_2", "epsilon", "mu", "mu_next", "mu_product"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative,
                                           kFraction, kFraction, kFraction};

  template <class V>
  struct Slots {
    V momentum, velocity;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V rate_1, rate_2, of_momentum, of_grad, of_velocity, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V of_momentum =
        step.learning_rate * h.mu_next / (V(1) - h.mu_product * h.mu_next);
    const V of_grad =
        step.learning_rate * (V(1) - h.mu) / (V(1) - h.mu_product);
    return {V(1) - h.beta_1,
            V(1) - h.beta_2,
            of_momentum,
            of_grad,
            V(1) / WholeOf(h.beta_2, step),
            h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    UpdateMoments(g, s, c);
    const V ahead = c.of_momentum * s.momentum + c.of_grad * g;
    return p - ahead / (Sqrt(c.of_velocity * s.velocity) + c.epsilon);
  }

  static constexpr size_t kHyperPerStep = 3;
  static constexpr Idle kIdle = Idle::kMoves;
  static constexpr bool kIdleHasRoot = true;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    return {h.beta_1, h.beta_2};
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s,
                                      const Coefficients<V>& first) {
    s.momentum = Mean(s.momentum);
    s.velocity = Mean(s.velocity);
    return MoveOverRoot(s.momentum, Sqrt(first.of_velocity * s.velocity),
                        first.epsilon);
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept,
                              const Coefficients<V>& step) {
    return step.of_momentum * kept.momentum;
  }

  template <class V>
  static constexpr V IdleRoot(const Slots<V>& kept,
                              const Coefficients<V>& first,
                              const Coefficients<V>& step) {
    return Sqrt(kept.velocity * step.of_velocity / first.of_velocity);
  }
};

using NadamVariants = Variants<Nadam>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_NADAM_H_
