// Row-wise Adam: Adam with one velocity for each row of a table, fed with the
// mean of the row's squared gradients (FBGEMM's PARTIAL_ROWWISE_ADAM).
#ifndef TF_OPTIM_CC_RULES_ROW_WISE_ADAM_H_
#define TF_OPTIM_CC_RULES_ROW_WISE_ADAM_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct RowWiseAdam : ElementwiseRule {
  static constexpr const char* kName = "RowWiseAdam";
  static constexpr const char* kFormula = R"(
    alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
    momentum += (1 - beta_1) * (grad - momentum)
    velocity[row] += (1 - beta_2) * (mean(grad[row]^2) - velocity[row])
    var[row] -= alpha * momentum[row] / (sqrt(velocity[row]) + epsilon))";

  template <class V>
  struct Hyper {
    V beta_1, beta_2, epsilon;
  };
  static constexpr const char* kHyperNames[] = {"beta_1", "beta_2", "epsilon"};
  static constexpr Range kHyperRanges[] = {kFraction, kFraction, kNotNegative};

  template <class V>
  struct Slots {
    V momentum, velocity;
  };
  static constexpr const char* kSlotNames[] = {"momentum", "velocity"};
  static constexpr uint32_t kRowSlots = 0b10;
  static constexpr uint32_t kPositiveSlots = 0b10;

  template <class V>
  struct Coefficients {
    V alpha, rate_1, rate_2, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {AdamRate(h, step), V(1) - h.beta_1, V(1) - h.beta_2, h.epsilon};
  }

  static constexpr Over kMeansOver = Over::kRow;
  template <class V>
  struct Means {
    V grad_squared;
  };

  template <class V>
  static constexpr Means<V> Measure(V, V g, const Slots<V>&,
                                    const Coefficients<V>&) {
    return {g * g};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c,
                            const Means<V>& means) {
    s.momentum = Towards(s.momentum, g, c.rate_1);
    s.velocity = Towards(s.velocity, means.grad_squared, c.rate_2);
    const V rate = c.alpha / (Sqrt(s.velocity) + c.epsilon);
    return p - rate * s.momentum;  // the rate is one for the row
  }
};

using RowWiseAdamVariants = Variants<RowWiseAdam>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ROW_WISE_ADAM_H_
