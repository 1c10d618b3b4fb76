// Running means of the gradient and of its square, as Adam and its relatives
// keep them.
#ifndef TF_OPTIM_CC_RULES_MOMENTS_H_
#define TF_OPTIM_CC_RULES_MOMENTS_H_

#include "cc/rules/rule.h"

namespace tf_optim {

// A mean moved towards x by a share of the distance: (1 - rate) mean + rate x
// with one multiplication.
template <class V>
constexpr V Towards(V mean, V x, V rate) {
  return mean + rate * (x - mean);
}

// The mean itself; one that is infinite is NaN once it is moved.
template <class V>
constexpr V Mean(V mean) {
  return mean + (mean - mean);
}

// How a momentum over a root moves a variable while both decay: the share of
// the root in the denominator says where between 0 and 1 the variable stands.
template <class V>
constexpr IdleMove<V> MoveOverRoot(V momentum, V root, V epsilon) {
  const V inverse = V(1) / (root + epsilon);  // one division of both
  // Not root * inverse: a root may be infinite.
  return {momentum * inverse, V(1) - epsilon * inverse};
}

// `s` has momentum and velocity, `c` the rates 1 - beta_1 and 1 - beta_2.
template <class V, class Slots, class Coefficients>
constexpr void UpdateMoments(V g, Slots& s, const Coefficients& c) {
  s.momentum = Towards(s.momentum, g, c.rate_1);
  s.velocity = Towards(s.velocity, g * g, c.rate_2);
}

// What a mean that started at 0 has of the whole after this step: 1 - beta^t.
template <class V>
constexpr V WholeOf(V beta, const Step<V>& step) {
  return V(1) - Pow(beta, step.number);
}

// The learning rate with which Adam's paper corrects both moments for starting
// at 0. `h` has beta_1 and beta_2.
template <class V, class Hyper>
constexpr V AdamRate(const Hyper& h, const Step<V>& step) {
  const V root = Sqrt(WholeOf(h.beta_2, step));
  return step.learning_rate * root / WholeOf(h.beta_1, step);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_MOMENTS_H_
