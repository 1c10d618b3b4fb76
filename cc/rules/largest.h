// The largest gradient so far, as Adamax and COCOB keep it.
#ifndef TF_OPTIM_CC_RULES_LARGEST_H_
#define TF_OPTIM_CC_RULES_LARGEST_H_

#include "cc/rules/rule.h"

namespace tf_optim {

// The size of a gradient, or the largest before; NaN once one of them is.
template <class V>
constexpr V LargestOf(V before, V g) {
  // Max alone would let go of a NaN of the first.
  return Max(before, Abs(g)) + IfPositive(before, V(0), before);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_LARGEST_H_
