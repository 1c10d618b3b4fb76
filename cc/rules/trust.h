// How far a step of a whole variable may be trusted, as LARS and Lamb say it.
#ifndef TF_OPTIM_CC_RULES_TRUST_H_
#define TF_OPTIM_CC_RULES_TRUST_H_

#include "cc/rules/rule.h"

namespace tf_optim {

// The ratio of norms; 1 where one of them is 0, or `adapts` is.
template <class V>
constexpr V TrustRatio(V ratio, V var_squared, V step_squared, V adapts) {
  const V known = IfPositive(step_squared, ratio, V(1));
  return IfPositive(adapts, IfPositive(var_squared, known, V(1)), V(1));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_TRUST_H_
