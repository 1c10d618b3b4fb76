// Adam's step where it agrees with the gradient (Liang et al., 2024).
#ifndef TF_OPTIM_CC_RULES_CAUTIOUS_ADAM_H_
#define TF_OPTIM_CC_RULES_CAUTIOUS_ADAM_H_

#include "cc/rules/adam.h"
#include "cc/rules/cautious.h"

namespace tf_optim {

template <bool amsgrad>
struct CautiousAdam : Cautious<Adam<amsgrad>> {
  static constexpr const char* kName = "CautiousAdam";
  static constexpr const char* kFormula = R"(
    step = what Adam subtracts from var
    agrees = 1 where step * grad > 0, else 0
    var -= step * agrees / max(mean(agrees), 0.001))";
};

using CautiousAdamVariants = Variants<CautiousAdam<false>, CautiousAdam<true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_CAUTIOUS_ADAM_H_
