// Adam's step, trusted as far as enough squares are in its second moment (Liu
// et al., 2020, algorithm 2).
#ifndef TF_OPTIM_CC_RULES_RECTIFICATION_H_
#define TF_OPTIM_CC_RULES_RECTIFICATION_H_

#include "cc/rules/moments.h"
#include "cc/rules/rule.h"

namespace tf_optim {

// r_t of the paper, for a mean of squares that is `length` steps long out of at
// most `most`.
template <class V>
constexpr V Rectification(V length, V most) {
  return Sqrt((length - V(4)) * (length - V(2)) * most /
              ((most - V(4)) * (most - V(2)) * length));
}

// `of_square` is the correction of the mean of squares, and 0 where the step is
// to be taken without it.
template <class V>
struct Rectified {
  V alpha, of_square;
};

// `h` has beta_1, beta_2 and sma_threshold.
template <class V, class Hyper>
constexpr Rectified<V> RectifiedRate(const Hyper& h, const Step<V>& step,
                                     bool rectify) {
  const V alpha = step.learning_rate / WholeOf(h.beta_1, step);
  const V power = Pow(h.beta_2, step.number);
  const V of_square = V(1) / (V(1) - power);
  if (!rectify) return {alpha, of_square};
  const V most = V(2) / (V(1) - h.beta_2) - V(1);
  const V length = most - V(2) * step.number * power / (V(1) - power);
  const V enough = length - h.sma_threshold;
  return {IfPositive(enough, alpha * Rectification(length, most), alpha),
          IfPositive(enough, of_square, V(0))};
}

template <class V>
constexpr V RectifiedStep(V momentum, V square, V alpha, V of_square,
                          V epsilon) {
  const V root = Sqrt(of_square * square) + epsilon;
  return alpha * momentum / IfPositive(of_square, root, V(1));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RECTIFICATION_H_
