// The contract of an update rule: read me first.
//
// A rule is the formula of one optimizer, written once over a value type V.
// The same text runs on V = double (coefficients), float or double (CUDA), a
// SIMD vector (CPU) and an XLA op. Loops, memory, threads, dtypes and repeated
// ids belong to the drivers; TensorFlow belongs to the kernels.
//
//   template <bool option>                       // options that change slots
//   struct Name {
//     static constexpr const char* kName = "Name";
//     static constexpr const char* kFormula = "in words for the op's doc";
//     template <class V> struct Hyper { V beta, epsilon; };
//     static constexpr const char* kHyperNames[] = {"beta", "epsilon"};
//     template <class V>
//     struct Slots { V momentum; Optional<V, option> extra; };
//     static constexpr const char* kSlotNames[] = {"momentum", "extra"};
//     template <class V> struct Coefficients { V rate, epsilon; };
//
//     // Once per step, in float64.
//     template <class V> static constexpr Coefficients<V>
//     Prepare(const Hyper<V>&, const Step<V>&);
//
//     // Per element: from the variable p, its slots and the gradient g to the
//     // new variable (returned) and the new slots.
//     template <class V>
//     static constexpr V Update(V p, V g, Slots<V>&, const Coefficients<V>&);
//   };
//   using NameVariants = Variants<Name<false>, Name<true>>;
//
// A value has + - * / and, found by its type, Sqrt, Pow, Abs, Max, Min. Two
// laws keep the results the same bits on every instruction set: use nothing
// else, and let Max(a, b) and Min(a, b) have the value that may be NaN as b.
#ifndef TF_OPTIM_CC_RULES_RULE_H_
#define TF_OPTIM_CC_RULES_RULE_H_

#include <cstdint>
#include <tuple>

#include "cc/rules/fields.h"
#include "cc/values/scalar.h"

namespace tf_optim {

// What a step brings besides hyperparameters.
template <class V>
struct Step {
  V learning_rate;
  V number;  // 1 for the first step
};

// The rules that one optimizer's options choose between. All share kName,
// kHyperNames and kSlotNames.
template <class... Rules>
struct Variants {
  using First = std::tuple_element_t<0, std::tuple<Rules...>>;
  static constexpr const char* kName = First::kName;
};

// Bit i is set when slot i exists in this variant.
template <class Rule>
constexpr uint32_t SlotMask() {
  typename Rule::template Slots<double> slots{};
  uint32_t mask = 0;
  ForEachField(slots, [&](size_t i, auto& slot) {
    if (kIsPresent<decltype(slot)>) mask |= 1u << i;
  });
  return mask;
}

// The step's coefficients in computation type C, made in float64.
template <class Rule, class C>
typename Rule::template Coefficients<C> PrepareAs(
    const typename Rule::template Hyper<double>& hyper,
    const Step<double>& step) {
  typename Rule::template Coefficients<C> coefficients;
  MapFields(Rule::Prepare(hyper, step), coefficients,
            [](double x) { return static_cast<C>(x); });
  return coefficients;
}

template <class Rule>
inline constexpr size_t kSlotFields =
    kFieldCount<typename Rule::template Slots<double>>;

// Calls f(Rule{}) for the variant that has just these slots; false if none.
template <class... Rules, class F>
bool VisitVariant(Variants<Rules...>, uint32_t slot_mask, F&& f) {
  return ((slot_mask == SlotMask<Rules>() && (f(Rules{}), true)) || ...);
}

// What every optimizer does to a gradient and a variable before its own
// formula, so that clipping, loss scales and weight decay cost no pass of
// their own:  g = clip(g * gradient_scale, +-clip_value);  p -= decay * p.
template <class V>
struct Tail {
  V gradient_scale;
  V clip_value;
  V decay;  // learning_rate * weight_decay
};

template <class V>
constexpr V TailGradient(V g, const Tail<V>& tail) {
  const V scaled = g * tail.gradient_scale;
  return Min(tail.clip_value, Max(V(0) - tail.clip_value, scaled));
}

template <class V>
constexpr V TailVariable(V p, const Tail<V>& tail) {
  return p - tail.decay * p;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RULE_H_
