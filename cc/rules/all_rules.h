// Every optimizer of the package. Ops and bindings are made from this list.
#ifndef TF_OPTIM_CC_RULES_ALL_RULES_H_
#define TF_OPTIM_CC_RULES_ALL_RULES_H_

#include "cc/rules/adadelta.h"
#include "cc/rules/adagrad.h"
#include "cc/rules/adam.h"
#include "cc/rules/adamax.h"
#include "cc/rules/ftrl.h"
#include "cc/rules/lamb.h"
#include "cc/rules/lion.h"
#include "cc/rules/nadam.h"
#include "cc/rules/rmsprop.h"
#include "cc/rules/row_wise_adagrad.h"
#include "cc/rules/sgd.h"

namespace tf_optim {

// Calls f(AdamVariants{}), f(RMSpropVariants{}) and so on.
template <class F>
void ForEachOptimizer(F&& f) {
  f(AdadeltaVariants{});
  f(AdagradVariants{});
  f(AdamVariants{});
  f(AdamaxVariants{});
  f(FtrlVariants{});
  f(LambVariants{});
  f(LionVariants{});
  f(NadamVariants{});
  f(RMSpropVariants{});
  f(RowWiseAdagradVariants{});
  f(SGDVariants{});
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ALL_RULES_H_
