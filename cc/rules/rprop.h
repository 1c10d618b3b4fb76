// Rprop: steps whose lengths follow how often the gradient's sign has changed
// (Riedmiller and Braun, 1993; without going back, as in iRprop-, Igel and
// Huesken, 2000).
#ifndef TF_OPTIM_CC_RULES_RPROP_H_
#define TF_OPTIM_CC_RULES_RPROP_H_

#include "cc/rules/rule.h"
#include "cc/rules/sign.h"

namespace tf_optim {

struct Rprop : ElementwiseRule {
  static constexpr const char* kName = "Rprop";
  static constexpr const char* kFormula = R"(
    turn = direction * sign(grad)
    where turn > 0:
      step_size = min(step_size * eta_plus, max_step / learning_rate)
    where turn < 0:
      step_size = max(step_size * eta_minus, min_step / learning_rate)
    direction = sign(grad), and 0 where turn < 0
    var -= learning_rate * step_size * direction)";

  template <class V>
  struct Hyper {
    V eta_minus, eta_plus, min_step, max_step;
  };
  static constexpr const char* kHyperNames[] = {"eta_minus", "eta_plus",
                                                "min_step", "max_step"};
  static constexpr Range kHyperRanges[] = {
      kFraction, {1, kInfinity}, kNotNegative, kNotNegative};

  template <class V>
  struct Slots {
    V direction, step_size;
  };
  static constexpr const char* kSlotNames[] = {"direction", "step_size"};
  static constexpr uint32_t kPositiveSlots = 0b10;

  // Lengths are in learning rates, so that a schedule scales all of them.
  template <class V>
  struct Coefficients {
    V learning_rate, eta_minus, eta_plus, shortest, longest;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    const V rate = step.learning_rate;
    return {rate, h.eta_minus, h.eta_plus,
            IfPositive(rate, h.min_step / rate, V(0)),
            IfPositive(rate, h.max_step / rate, V(kInfinity))};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V sign = Sign(g);
    const V turn = s.direction * sign;
    const V back = V(0) - turn;
    const V longer = Min(c.longest, s.step_size * c.eta_plus);
    const V shorter = Max(c.shortest, s.step_size * c.eta_minus);
    s.step_size =
        IfPositive(turn, longer, IfPositive(back, shorter, s.step_size));
    s.direction = IfPositive(back, V(0), sign);
    return p - c.learning_rate * s.step_size * s.direction;
  }

  static constexpr Idle kIdle = Idle::kDecays;

  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>&) {
    return {V(0), V(1)};
  }
};

using RpropVariants = Variants<Rprop>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RPROP_H_
