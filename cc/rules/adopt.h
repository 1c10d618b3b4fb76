// ADOPT: Adam that divides by the velocity of the steps before, and before the
// momentum is taken (Taniguchi et al., 2024, algorithm 2, with the clipping
// that the authors added).
#ifndef TF_OPTIM_CC_RULES_ADOPT_H_
#define TF_OPTIM_CC_RULES_ADOPT_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct Adopt : ElementwiseRule {
  static constexpr const char* kName = "Adopt";
  static constexpr const char* kFormula = R"(
    the first step: velocity = grad^2, and nothing else; later ones:
    bound = (t - 1)^clip_exponent
    normed = grad / max(epsilon, sqrt(velocity))
    momentum += (1 - beta_1) * (clip(normed, -bound, bound) - momentum)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    var -= learning_rate * momentum)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, clip_exponent;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon",
                                                "clip_exponent"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative,
                                           kNotNegative};

  template <class V>
  struct Slots {
    V momentum, velocity;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V learning_rate, rate_1, rate_2, epsilon, bound;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V before = step.number - V(1);
    return {IfPositive(before, step.learning_rate, V(0)),
            IfPositive(before, V(1) - h.beta_1, V(0)),
            IfPositive(before, V(1) - h.beta_2, V(1)), h.epsilon,
            IfPositive(before, Pow(before, h.clip_exponent), V(0))};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V normed = g / Max(c.epsilon, Sqrt(s.velocity));
    s.momentum = Towards(s.momentum, Clipped(normed, c.bound), c.rate_1);
    s.velocity = Towards(s.velocity, g * g, c.rate_2);
    return p - c.learning_rate * s.momentum;
  }

  static constexpr Idle kIdle = Idle::kMoves;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    return {h.beta_1, h.beta_2};
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s, const Coefficients<V>&) {
    s.momentum = Mean(s.momentum);
    s.velocity = Mean(s.velocity);
    return {s.momentum, V(0)};
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept,
                              const Coefficients<V>& step) {
    return step.learning_rate * kept.momentum;
  }
};

using AdoptVariants = Variants<Adopt>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADOPT_H_
