// COCOB-Backprop: each element bets on the sign of its next gradient; what it
// has won says how far it goes (Orabona and Tommasi, 2017, algorithm 2).
#ifndef TF_OPTIM_CC_RULES_COCOB_H_
#define TF_OPTIM_CC_RULES_COCOB_H_

#include "cc/rules/largest.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct COCOB : ElementwiseRule {
  static constexpr const char* kName = "COCOB";
  static constexpr const char* kFormula = R"(
    gradient_sum += grad
    largest = max(largest, abs(grad))
    total += abs(grad)
    reward = max(reward - grad * offset, 0)
    before = offset
    offset = -gradient_sum / (largest * max(total + largest, alpha * largest))
             * (largest + reward), and 0 where largest is 0
    var += learning_rate * (offset - before))";

  template <class V>
  struct Hyper {
    V alpha;
  };
  static constexpr const char* kHyperNames[] = {"alpha"};
  static constexpr Range kHyperRanges[] = {{1, kInfinity}};

  template <class V>
  struct Slots {
    V gradient_sum, largest, total, reward, offset;
  };
  static constexpr const char* kSlotNames[] = {"gradient_sum", "largest",
                                               "total", "reward", "offset"};
  static constexpr uint32_t kPositiveSlots = 0b01110;

  template <class V>
  struct Coefficients {
    V learning_rate, alpha;
  };

  template <class V>
  static constexpr Coefficients<V> Prepare(const Hyper<V>& h,
                                           const Step<V>& step) {
    return {step.learning_rate, h.alpha};
  }

  template <class V>
  static constexpr V Update(V p, V g, Slots<V>& s, const Coefficients<V>& c) {
    const V before = s.offset;
    s.gradient_sum = s.gradient_sum + g;
    s.largest = LargestOf(s.largest, g);
    s.total = s.total + Abs(g);
    // In this order a NaN goes on.
    s.reward = Max(V(0), s.reward - g * before);
    // The square of `largest` may be too small for a float.
    const V bet =
        (s.largest + s.reward) / Max(s.total + s.largest, c.alpha * s.largest);
    const V offset = V(0) - s.gradient_sum / s.largest * bet;
    // Without a gradient so far the sum is 0. It is NaN if one was.
    s.offset = IfPositive(s.largest, offset, s.gradient_sum);
    return p + c.learning_rate * (s.offset - before);
  }

  static constexpr Idle kIdle = Idle::kDecays;

  // A gradient of 0 changes nothing.
  template <class V>
  static constexpr Slots<V> Kept(const Hyper<V>&) {
    return {V(1), V(1), V(1), V(1), V(1)};
  }
};

using COCOBVariants = Variants<COCOB>;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_COCOB_H_
