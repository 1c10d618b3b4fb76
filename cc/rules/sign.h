// The sign of a value.
#ifndef TF_OPTIM_CC_RULES_SIGN_H_
#define TF_OPTIM_CC_RULES_SIGN_H_

#include "cc/rules/rule.h"

namespace tf_optim {

// 1, -1, or x itself where it is 0 or NaN.
template <class V>
constexpr V Sign(V x) {
  const V not_above = IfPositive(V(0) - x, V(-1), x);
  return IfPositive(x, V(1), not_above);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_SIGN_H_
