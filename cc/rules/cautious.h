// Cautious steps (Liang et al., 2024): where a rule's step goes up along the
// gradient it is not taken, and the others are lengthened for it.
//
//   agrees = 1 where step * grad > 0, else 0
//   var -= step * agrees / max(mean(agrees), 0.001)
//
// The mean is over the variable or, with sparse gradients and mode "lazy", over
// the rows named. Of any rule that says kMayBeCautious; drivers take the mean
// in a pass of its own, which changes nothing.
#ifndef TF_OPTIM_CC_RULES_CAUTIOUS_H_
#define TF_OPTIM_CC_RULES_CAUTIOUS_H_

#include "cc/rules/rule.h"
#include "cc/rules/sign.h"

namespace tf_optim {

inline constexpr char kCautious[] = "cautious";  // the flag

// 1 or 0. The product of both could be 0 by underflow.
template <class V>
constexpr V Agrees(V step, V g) {
  return IfPositive(step * Sign(g), V(1), V(0));
}

// What the mean of Agrees makes of the steps that are taken.
template <class V>
constexpr V LengthenedBy(V agreeing) {
  return V(1) / Max(V(0.001), agreeing);
}

// A factor of 0 leaves a step that is NaN as it is.
template <class V>
constexpr V CautiousUpdate(V p, V step, V g, V lengthened_by) {
  return p - step * (Agrees(step, g) * lengthened_by);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_CAUTIOUS_H_
