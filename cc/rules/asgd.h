// Averaged stochastic gradient descent (Polyak and Juditsky, 1992; Bottou,
// 2010, with the rates of Xu, 2011).
#ifndef TF_OPTIM_CC_RULES_ASGD_H_
#define TF_OPTIM_CC_RULES_ASGD_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct ASGD : ElementwiseRule {
  static constexpr const char* kName = "ASGD";
  static constexpr const char* kFormula = R"(
    eta = learning_rate / (1 + lambd * learning_rate * (t - 1))^alpha
    var -= eta * (grad + lambd * var)
    mean_var += (var - mean_var) / max(1, t - 1 - t0))";

  template <class V>
  struct Hyper {
    V lambd, alpha, t0;
  };
  static constexpr const char* kHyperNames[] = {"lambd", "alpha", "t0"};
  static constexpr Range kHyperRanges[] = {kNotNegative, kNotNegative,
                                           kNotNegative};

  template <class V>
  struct Slots {
    V mean_var;
  };
  static constexpr const char* kSlotNames[] = {"mean_var"};

  template <class V>
  struct Coefficients {
    V eta, lambd, rate;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V before = step.number - V(1);
    const V shrunk = V(1) + h.lambd * step.learning_rate * before;
    return {step.learning_rate / Pow(shrunk, h.alpha), h.lambd,
            V(1) / Max(V(1), before - h.t0)};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V moved = p - c.eta * (g + c.lambd * p);
    s.mean_var = Towards(s.mean_var, moved, c.rate);
    return moved;
  }
};

using ASGDVariants = Variants<ASGD>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ASGD_H_
