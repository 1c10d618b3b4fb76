// Lion's step where it agrees with the gradient (Liang et al., 2024).
#ifndef TF_OPTIM_CC_RULES_CAUTIOUS_LION_H_
#define TF_OPTIM_CC_RULES_CAUTIOUS_LION_H_

#include "cc/rules/cautious.h"
#include "cc/rules/lion.h"

namespace tf_optim {

struct CautiousLion : Cautious<Lion> {
  static constexpr const char* kName = "CautiousLion";
  static constexpr const char* kFormula = R"(
    step = what Lion subtracts from var
    agrees = 1 where step * grad > 0, else 0
    var -= step * agrees / max(mean(agrees), 0.001))";
};

using CautiousLionVariants = Variants<CautiousLion>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_CAUTIOUS_LION_H_
