// Adam (Kingma and Ba, 2015) and AMSGrad (Reddi et al., 2018, with the maximum
// taken of the uncorrected velocity, as Keras does).
#ifndef TF_OPTIM_CC_RULES_ADAM_H_
#define TF_OPTIM_CC_RULES_ADAM_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

template <bool amsgrad>
struct Adam : ElementwiseRule {
  static constexpr const char* kName = "Adam";
  static constexpr const char* kFormula = R"(
    alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
    momentum += (1 - beta_1) * (grad - momentum)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    velocity_hat = max(velocity_hat, velocity), if there is a velocity_hat
    var -= alpha * momentum / (sqrt(velocity_hat or velocity) + epsilon))";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative};

  template <class V>
  struct Slots {
    V momentum, velocity;
    Optional<V, amsgrad> velocity_hat;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity",
                                               "velocity_hat"};
  static constexpr uint32_t kPositiveSlots = 0b110;

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
    UpdateMoments(g, s, c);
    V v = s.velocity;
    if constexpr (amsgrad) v = s.velocity_hat = Max(s.velocity_hat, v);
    return p - c.alpha * s.momentum / (Sqrt(v) + c.epsilon);
  }

  // The largest velocity does not change after the first idle step.
  static constexpr Idle kIdle = Idle::kMoves;
  static constexpr bool kIdleHasRoot = !amsgrad;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>& h) {
    Slots<V> kept{h.beta_1, h.beta_2, {}};
    if constexpr (amsgrad) kept.velocity_hat = V(1);
    return kept;
  }

  template <class V>
  static constexpr IdleMove<V> MoveOf(Slots<V>& s,
                                      const Coefficients<V>& first) {
    s.momentum = Mean(s.momentum);
    s.velocity = Mean(s.velocity);
    if constexpr (amsgrad) {
      // Slots of other options may have one that is less than the velocity.
      const V velocity = Towards(s.velocity, V(0), first.rate_2);
      s.velocity_hat = Max(s.velocity_hat, velocity);
      return {s.momentum / (Sqrt(s.velocity_hat) + first.epsilon), V(0)};
    } else {
      return MoveOverRoot(s.momentum, Sqrt(s.velocity), first.epsilon);
    }
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept,
                              const Coefficients<V>& step) {
    return step.alpha * kept.momentum;
  }

  template <class V>
  static constexpr V IdleRoot(const Slots<V>& kept, const Coefficients<V>&,
                              const Coefficients<V>&) {
    return Sqrt(kept.velocity);
  }
};

using AdamVariants = Variants<Adam<false>, Adam<true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADAM_H_
