// Every optimizer of the package: made by //cc/rules:all_rules from the headers
// of this folder. Ops and bindings are made from it.
#ifndef TF_OPTIM_CC_RULES_ALL_RULES_H_
#define TF_OPTIM_CC_RULES_ALL_RULES_H_

#include "@HEADER@"

namespace tf_optim {

// Calls f(AdamVariants{}), f(RMSpropVariants{}) and so on.
template <class F>
void ForEachOptimizer(F&& f) {
  f(@VARIANTS@{});
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ALL_RULES_H_
