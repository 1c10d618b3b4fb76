// Adamax: Adam with the infinity norm (Kingma and Ba, 2015, section 7.1).
#ifndef TF_OPTIM_CC_RULES_ADAMAX_H_
#define TF_OPTIM_CC_RULES_ADAMAX_H_

#include "cc/rules/largest.h"
#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct Adamax : ElementwiseRule {
  static constexpr const char* kName = "Adamax";
  static constexpr const char* kFormula = R"(
    momentum += (1 - beta_1) * (grad - momentum)
    norm = max(beta_2 * norm, |grad|)
    var -= learning_rate / (1 - beta_1^t) * momentum / (norm + epsilon))";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative};

  template <class V>
  struct Slots {
    V momentum, norm;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "norm"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V alpha, rate_1, beta_2, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V alpha = step.learning_rate / WholeOf(h.beta_1, step);
    return {alpha, V(1) - h.beta_1, h.beta_2, h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    s.momentum = Towards(s.momentum, g, c.rate_1);
    s.norm = LargestOf(c.beta_2 * s.norm, g);
    return p - c.alpha * s.momentum / (s.norm + c.epsilon);
  }

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
    // Two divisions: the inverse of a norm, which no root has made smaller, may
    // be too small for a float.
    const V whole = s.norm + first.epsilon;
    return {s.momentum / whole, V(1) - first.epsilon / whole};
  }

  template <class V>
  static constexpr V IdleRate(const Slots<V>& kept,
                              const Coefficients<V>& step) {
    return step.alpha * kept.momentum;
  }

  template <class V>
  static constexpr V IdleRoot(const Slots<V>& kept, const Coefficients<V>&,
                              const Coefficients<V>&) {
    return kept.norm;
  }
};

using AdamaxVariants = Variants<Adamax>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADAMAX_H_
