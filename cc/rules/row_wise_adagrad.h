// Row-wise Adagrad: one accumulator for each row of a table, fed with the mean
// of the row's squared gradients (FBGEMM's EXACT_ROWWISE_ADAGRAD; DLRM, Naumov
// et al., 2019).
#ifndef TF_OPTIM_CC_RULES_ROW_WISE_ADAGRAD_H_
#define TF_OPTIM_CC_RULES_ROW_WISE_ADAGRAD_H_

#include "cc/rules/rule.h"

namespace tf_optim {

struct RowWiseAdagrad : ElementwiseRule {
  static constexpr const char* kName = "RowWiseAdagrad";
  static constexpr const char* kFormula = R"(
    accumulator[row] += mean(grad[row]^2)
    var[row] -= learning_rate * grad[row] / sqrt(accumulator[row] + epsilon))";

  template <class V>
  struct Hyper {
    V epsilon;
  };
  static constexpr const char* kHyperNames[] = {"epsilon"};
  static constexpr Range kHyperRanges[] = {kNotNegative};

  template <class V>
  struct Slots {
    V accumulator;
  };
  static constexpr const char* kSlotNames[] = {"accumulator"};
  static constexpr uint32_t kRowSlots = 1;

  template <class V>
  struct Coefficients {
    V learning_rate, epsilon;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.epsilon};
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
    s.accumulator = s.accumulator + means.grad_squared;
    const V rate = c.learning_rate / Sqrt(s.accumulator + c.epsilon);
    return p - rate * g;  // the rate is one for the row
  }

  static constexpr Idle kIdle = Idle::kDecays;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>&) {
    return {V(1)};
  }
};

using RowWiseAdagradVariants = Variants<RowWiseAdagrad>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_ROW_WISE_ADAGRAD_H_
