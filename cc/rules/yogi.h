// Yogi: Adam whose velocity moves by the sign of what it lacks (Zaheer et al.,
// 2018, algorithm 2).
#ifndef TF_OPTIM_CC_RULES_YOGI_H_
#define TF_OPTIM_CC_RULES_YOGI_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"
#include "cc/rules/sign.h"

namespace tf_optim {

struct Yogi : ElementwiseRule {
  static constexpr const char* kName = "Yogi";
  static constexpr const char* kFormula = R"(
    alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
    momentum += (1 - beta_1) * (grad - momentum)
    velocity += (1 - beta_2) * sign(grad^2 - velocity) * grad^2
    var -= alpha * momentum / (sqrt(velocity) + epsilon))";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative};

  template <class V>
  struct Slots {
    V momentum, velocity;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V alpha, rate_1, rate_2, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {AdamRate(h, step), V(1) - h.beta_1, V(1) - h.beta_2, h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V square = g * g;
    s.momentum = Towards(s.momentum, g, c.rate_1);
    s.velocity = s.velocity + c.rate_2 * (Sign(square - s.velocity) * square);
    return p - c.alpha * s.momentum / (Sqrt(s.velocity) + c.epsilon);
  }

  // The velocity moves by squares of gradients alone.
  static constexpr Idle kIdle = Idle::kMoves;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    return {h.beta_1, V(1)};
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s,
                                      const Coefficients<V>& first) {
    s.momentum = Mean(s.momentum);
    return {s.momentum / (Sqrt(s.velocity) + first.epsilon), V(0)};
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept,
                              const Coefficients<V>& step) {
    return step.alpha * kept.momentum;
  }
};

using YogiVariants = Variants<Yogi>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_YOGI_H_
