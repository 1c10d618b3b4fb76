// LARS: momentum whose steps are a share of the variable that they change (You,
// Gitman and Ginsburg, 2017, algorithm 1).
#ifndef TF_OPTIM_CC_RULES_LARS_H_
#define TF_OPTIM_CC_RULES_LARS_H_

#include "cc/rules/rule.h"
#include "cc/rules/trust.h"

namespace tf_optim {

template <bool nesterov>
struct LARS : ElementwiseRule {
  static constexpr const char* kName = "LARS";
  static constexpr const char* kFormula = R"(
    decayed = grad + weight_decay_rate * var
    ratio = trust_coefficient * norm(var)
            / (norm(grad) + weight_decay_rate * norm(var)),
            or 1 where a norm is 0 or layer_adaptation is 0
    momentum = momentum_rate * momentum + learning_rate * ratio * decayed
    var -= momentum; with nesterov instead:
    var -= momentum_rate * momentum + learning_rate * ratio * decayed)";

  template <class V>
  struct Hyper {
    V momentum_rate, trust_coefficient, weight_decay_rate, layer_adaptation;
  };
  static constexpr const char* kHyperNames[] = {
      "momentum_rate", "trust_coefficient", "weight_decay_rate",
      "layer_adaptation"};
  static constexpr Range kHyperRanges[] = {kFractionOrOne, kNotNegative,
                                           kNotNegative, kFractionOrOne};
  static constexpr std::array<const char*, 1> kFlagNames = {"nesterov"};
  static constexpr uint32_t kFlags = nesterov;

  template <class V>
  struct Slots {
    V momentum;
  };
  static constexpr const char* kSlotNames[] = {"momentum"};

  template <class V>
  struct Coefficients {
    V learning_rate, momentum_rate, trust, decay, adapts;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.momentum_rate, h.trust_coefficient,
            h.weight_decay_rate, h.layer_adaptation};
  }

  static constexpr Over kMeansOver = Over::kVariable;
  template <class V>
  struct Means {
    V var_squared, grad_squared;
  };

  template <class V>
  static constexpr Means<V> Measure(V p, V g, const Slots<V>&,
                                    const Coefficients<V>&) {
    return {p * p, g * g};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c,
                            const Means<V>& means) {
    const V of_var = Sqrt(means.var_squared);
    const V ratio =
        c.trust * of_var / (Sqrt(means.grad_squared) + c.decay * of_var);
    const V trusted =
        TrustRatio(ratio, means.var_squared, means.grad_squared, c.adapts);
    const V step = trusted * c.learning_rate * (g + c.decay * p);
    s.momentum = c.momentum_rate * s.momentum + step;
    if constexpr (!nesterov) return p - s.momentum;
    return p - (c.momentum_rate * s.momentum + step);
  }
};

using LARSVariants = Variants<LARS<false>, LARS<true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_LARS_H_
