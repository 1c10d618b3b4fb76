// Cautious steps (Liang et al., 2024): where a rule's step goes up along the
// gradient it is not taken, and the others are lengthened for it.
#ifndef TF_OPTIM_CC_RULES_CAUTIOUS_H_
#define TF_OPTIM_CC_RULES_CAUTIOUS_H_

#include "cc/rules/rule.h"
#include "cc/rules/sign.h"

namespace tf_optim {

// Of any rule whose step does not depend on where the variable is: p - step.
template <class Base>
struct Cautious : Base {
  static constexpr Over kMeansOver = Over::kVariable;
  template <class V>
  struct Means {
    V agreeing;
  };

  template <class V, class Slots, class Coefficients>
  static constexpr Means<V> Measure(V, V g, const Slots& s,
                                    const Coefficients& c) {
    Slots after = s;
    return {Agrees(StepOf(g, after, c), g)};
  }

  template <class V, class Slots, class Coefficients>
  static constexpr V Update(V p, V g, Slots& s, const Coefficients& c,
                            const Means<V>& means) {
    const V step = StepOf(g, s, c);
    // Times 0 or 1: a step that is NaN stays it.
    return p - step * (Agrees(step, g) / Max(V(0.001), means.agreeing));
  }

  // An idle row does not move, but counts as one that does not agree.
  static constexpr Idle kIdle = Idle::kRepeated;
  static constexpr bool kIdleHasRoot = false;
  static constexpr bool kIdleEndsAtZero = false;

 private:
  template <class V, class Slots, class Coefficients>
  static constexpr V StepOf(V g, Slots& s, const Coefficients& c) {
    return V(0) - Base::Update(V(0), g, s, c);
  }

  // 1 or 0. The product of both could be 0 by underflow.
  template <class V>
  static constexpr V Agrees(V step, V g) {
    return IfPositive(step * Sign(g), V(1), V(0));
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_CAUTIOUS_H_
