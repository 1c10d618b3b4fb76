// AdaBelief: Adam whose second moment is that of the gradient about its mean
// (Zhuang et al., 2020, algorithm 2), with RAdam's rectification as an option.
#ifndef TF_OPTIM_CC_RULES_ADA_BELIEF_H_
#define TF_OPTIM_CC_RULES_ADA_BELIEF_H_

#include "cc/rules/moments.h"
#include "cc/rules/rectification.h"
#include "cc/rules/rule.h"

namespace tf_optim {

template <bool amsgrad, bool rectify>
struct AdaBelief : ElementwiseRule {
  static constexpr const char* kName = "AdaBelief";
  static constexpr const char* kFormula = R"(
    momentum += (1 - beta_1) * (grad - momentum)
    variance += (1 - beta_2) * ((grad - momentum)^2 - variance) + epsilon
    variance_hat = max(variance_hat, variance), if there is a variance_hat
    var -= learning_rate * momentum / (1 - beta_1^t)
           / (sqrt((variance_hat or variance) / (1 - beta_2^t)) + epsilon)
    with rectify as in RectifiedAdam: times r, or without the root)";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, sma_threshold;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon",
                                                "sma_threshold"};
  static constexpr Range kHyperRanges[] = {
      kFraction, kFraction, kNotNegative, {4, kInfinity}};
  static constexpr std::array<const char*, 1> kFlagNames = {"rectify"};
  static constexpr uint32_t kFlags = rectify;

  template <class V>
  struct Slots {
    V momentum, variance;
    Optional<V, amsgrad> variance_hat;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "variance",
                                               "variance_hat"};
  static constexpr uint32_t kPositiveSlots = 0b110;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V alpha, rate_1, rate_2, of_variance, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const Rectified<V> by = RectifiedRate(h, step, rectify);
    return {by.alpha, V(1) - h.beta_1, V(1) - h.beta_2, by.of_square,
            h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    s.momentum = Towards(s.momentum, g, c.rate_1);
    const V surprise = g - s.momentum;
    s.variance = Towards(s.variance, surprise * surprise, c.rate_2) + c.epsilon;
    V v = s.variance;
    if constexpr (amsgrad) v = s.variance_hat = Max(s.variance_hat, v);
    return p - RectifiedStep(s.momentum, v, c.alpha, c.of_variance, c.epsilon);
  }
};

using AdaBeliefVariants =
    Variants<AdaBelief<false, false>, AdaBelief<true, false>,
             AdaBelief<false, true>, AdaBelief<true, true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ADA_BELIEF_H_
