// Every optimizer of the package. Ops and bindings are made from this list.
#ifndef TF_OPTIM_CC_RULES_ALL_RULES_H_
#define TF_OPTIM_CC_RULES_ALL_RULES_H_

#include "cc/rules/adam.h"
#include "cc/rules/rmsprop.h"

namespace tf_optim {

// Calls f(AdamVariants{}), f(RMSpropVariants{}) and so on.
template <class F>
void ForEachOptimizer(F&& f) {
  f(AdamVariants{});
  f(RMSpropVariants{});
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ALL_RULES_H_
