// RAdam: Adam that trusts its velocity once enough steps are in it (Liu et al.,
// 2020, algorithm 2).
#ifndef TF_OPTIM_CC_RULES_RECTIFIED_ADAM_H_
#define TF_OPTIM_CC_RULES_RECTIFIED_ADAM_H_

#include "cc/rules/moments.h"
#include "cc/rules/rectification.h"
#include "cc/rules/rule.h"

namespace tf_optim {

template <bool amsgrad>
struct RectifiedAdam : ElementwiseRule {
  static constexpr const char* kName = "RectifiedAdam";
  static constexpr const char* kFormula = R"(
    momentum += (1 - beta_1) * (grad - momentum)
    velocity += (1 - beta_2) * (grad^2 - velocity)
    velocity_hat = max(velocity_hat, velocity), if there is a velocity_hat
    most = 2 / (1 - beta_2) - 1
    length = most - 2 * t * beta_2^t / (1 - beta_2^t)
    where length > sma_threshold:
      r = sqrt((length - 4) * (length - 2) * most
               / ((most - 4) * (most - 2) * length))
      var -= learning_rate * r * momentum / (1 - beta_1^t)
             / (sqrt((velocity_hat or velocity) / (1 - beta_2^t)) + epsilon)
    else:
      var -= learning_rate * momentum / (1 - beta_1^t))";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon, sma_threshold;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon",
                                                "sma_threshold"};
  // Below 4 the variance that the step divides by is not finite.
  static constexpr Range kHyperRanges[] = {
      kFraction, kFraction, kNotNegative, {4, kInfinity}};

  template <class V>
  struct Slots {
    V momentum, velocity;
    Optional<V, amsgrad> velocity_hat;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity",
                                               "velocity_hat"};
  static constexpr uint32_t kPositiveSlots = 0b110;

  static constexpr bool kMayBeCautious = true;

  template <class V>
  struct Coefficients {
    V alpha, rate_1, rate_2, of_velocity, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const Rectified<V> by = RectifiedRate(h, step, /*rectify=*/true);
    return {by.alpha, V(1) - h.beta_1, V(1) - h.beta_2, by.of_square,
            h.epsilon};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    UpdateMoments(g, s, c);
    V v = s.velocity;
    if constexpr (amsgrad) v = s.velocity_hat = Max(s.velocity_hat, v);
    return p - RectifiedStep(s.momentum, v, c.alpha, c.of_velocity, c.epsilon);
  }
};

using RectifiedAdamVariants =
    Variants<RectifiedAdam<false>, RectifiedAdam<true>>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RECTIFIED_ADAM_H_
