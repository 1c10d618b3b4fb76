// The contract of an update rule: read me first. A rule is a header of this
// folder, named as its kName is in Python (row_wise_adagrad.h, rmsprop.h), and
// nothing else in cc/: what compiles and registers it follows from its line
// `using NameVariants`.
//
// A rule is the formula of one optimizer, written once over a value type V.
// The same text runs on V = double (coefficients), float or double (CUDA), a
// SIMD vector (CPU) and an XLA op. Loops, memory, threads, dtypes and repeated
// ids belong to the drivers; TensorFlow belongs to the kernels.
//
//   template <bool option>                       // options that change slots
//   struct Name : ElementwiseRule {
//     static constexpr const char* kName = "Name";
//     static constexpr const char* kFormula = "in words for the op's doc";
//     template <class V> struct Hyper { V beta, epsilon; };
//     static constexpr const char* kHyperNames[] = {"beta", "epsilon"};
//     static constexpr Range kHyperRanges[] = {kFraction, kNotNegative};
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
// What only some rules need, and ElementwiseRule says no to:
//
//   An option that changes the formula and no slot is an attribute of the op:
//     static constexpr std::array<const char*, 1> kFlagNames = {"nesterov"};
//     static constexpr uint32_t kFlags = nesterov;  // bit i: kFlagNames[i]
//
//   A slot of one number per row of the variable (its first dimension); in
//   Update it is a value like the others, the same for the whole row:
//     static constexpr uint32_t kRowSlots = 1;      // bit i: slot i
//
//   Slots that are never negative, which packed storage makes use of:
//     static constexpr uint32_t kPositiveSlots = 2;
//
//   Means over each row or over the variable (with sparse gradients and mode
//   "lazy", over the rows named). The driver takes them of what Measure
//   returns per element, and gives them to Update. One of the two changes the
//   slots, the other takes them as const. Where Measure changes them Update is
//   given no gradient, so that nobody has to fetch it a second time:
//     static constexpr Over kMeansOver = Over::kVariable;
//     template <class V> struct Means { V var_squared, step_squared; };
//     template <class V> static constexpr Means<V>
//     Measure(V p, V g, Slots<V>&, const Coefficients<V>&);
//     template <class V> static constexpr V
//     Update(V p, const Slots<V>&, const Coefficients<V>&, const Means<V>&);
//     static constexpr bool kMeasureChangesSlots = true;
//
//   A momentum, and a step that does not depend on where the variable is. The
//   optimizer can then be cautious (cautious.h), a flag that all such have:
//     static constexpr bool kMayBeCautious = true;
//
//   What steps with a zero gradient do, so that a row that lies idle can be
//   brought up to date at once (idle.h); without it they are taken one by one:
//     static constexpr Idle kIdle = Idle::kMoves;
//     // What one such step leaves of each slot, as a factor.
//     template <class V> static constexpr Slots<V> Kept(const Hyper<V>&);
//     // Idle steps change p by -scale * G(position), the sum over the steps of
//     //   IdleRate / (1 - position * (1 - IdleRoot)).
//     // `first` is the first of them, `kept` what is left of the slots after
//     // `step`. Rules whose denominator stays the same have no IdleRoot.
//     static constexpr bool kIdleHasRoot = true;
//     template <class V> static constexpr IdleMove<V>
//     MoveOf(Slots<V>&, const Coefficients<V>& first);
//     template <class V> static constexpr V
//     IdleRate(const Slots<V>& kept, const Coefficients<V>& step);
//     template <class V> static constexpr V
//     IdleRoot(const Slots<V>& kept, const Coefficients<V>& first,
//              const Coefficients<V>& step);
//
// A struct has at most kMaxFields members, Slots at most kMaxSlots.
//
// A value has + - * / and, found by its type, Sqrt, Pow, Abs, Max, Min and
// IfPositive(x, a, b), which is a where x > 0 and b elsewhere. Two laws keep
// the results the same bits on every instruction set: use nothing else, and
// let Max(a, b) and Min(a, b) have the value that may be NaN as b.
#ifndef TF_OPTIM_CC_RULES_RULE_H_
#define TF_OPTIM_CC_RULES_RULE_H_

#include <array>
#include <cstdint>
#include <iterator>
#include <tuple>
#include <type_traits>

#include "cc/rules/fields.h"
#include "cc/rules/range.h"
#include "cc/values/scalar.h"

namespace tf_optim {

// What a step brings besides hyperparameters.
template <class V>
struct Step {
  V learning_rate;
  V number;  // 1 for the first step
};

// What Measure's results are averaged over.
enum class Over { kNothing, kRow, kVariable };

// What is known of steps with a zero gradient.
enum class Idle {
  kRepeated,  // nothing: each is taken
  kLast,      // the last one does what all of them do (see IdleIsLast)
  kDecays,    // they change the slots alone, by factors
  kMoves,     // slots by factors, and the variable by a sum over the steps
};

template <class V>
struct IdleMove {
  V scale, position;  // position in [0, 1]
};

// A rule that looks at one element at a time, and takes what it has not said
// otherwise from here.
struct ElementwiseRule {
  static constexpr std::array<const char*, 0> kFlagNames = {};
  static constexpr uint32_t kFlags = 0;
  static constexpr uint32_t kRowSlots = 0;
  static constexpr uint32_t kPositiveSlots = 0;
  static constexpr Over kMeansOver = Over::kNothing;
  static constexpr bool kMeasureChangesSlots = false;
  static constexpr bool kMayBeCautious = false;
  static constexpr size_t kHyperPerStep = 0;  // the last ones, new at each step
  static constexpr Idle kIdle = Idle::kRepeated;
  static constexpr bool kIdleHasRoot = false;
  // Whether the closed form ends where a slot becomes 0 by underflow.
  static constexpr bool kIdleEndsAtZero = false;
  template <class V>
  struct Means {};
};

inline constexpr int kMaxSlots = 6;

template <class Rule>
inline constexpr size_t kSlotFields =
    kFieldCount<typename Rule::template Slots<double>>;

// What is easily got wrong, said where it is wrong.
template <class Rule>
constexpr bool IsComplete() {
  constexpr size_t hyper = kFieldCount<typename Rule::template Hyper<double>>;
  static_assert(std::size(Rule::kHyperNames) == hyper,
                "kHyperNames must name each member of Hyper, in its order");
  static_assert(std::size(Rule::kHyperRanges) == hyper,
                "kHyperRanges must have a range for each member of Hyper");
  static_assert(Rule::kHyperPerStep <= hyper,
                "kHyperPerStep must be a number of members of Hyper");
  static_assert(std::size(Rule::kSlotNames) == kSlotFields<Rule>,
                "kSlotNames must name each member of Slots, in its order");
  static_assert(kSlotFields<Rule> <= kMaxSlots,
                "Slots has too many members: kMaxSlots in cc/rules/rule.h says "
                "how many are allowed");
  static_assert(Rule::kRowSlots >> kSlotFields<Rule> == 0,
                "kRowSlots must have bits of members of Slots alone");
  static_assert(Rule::kFlags >> std::size(Rule::kFlagNames) == 0,
                "kFlags must have bits of kFlagNames alone");
  static_assert(
      Rule::kMeansOver != Over::kNothing || !Rule::kMeasureChangesSlots,
      "kMeasureChangesSlots is for rules whose kMeansOver is kRow or "
      "kVariable");
  static_assert(Rule::kMeansOver == Over::kNothing || !Rule::kMayBeCautious,
                "kMayBeCautious is for rules without means");
  return true;
}

constexpr bool IsSameText(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

// Whether two variants have the same inputs in their op.
template <class A, class B>
constexpr bool AreAlike() {
  if (std::size(A::kHyperNames) != std::size(B::kHyperNames) ||
      std::size(A::kSlotNames) != std::size(B::kSlotNames) ||
      !IsSameText(A::kName, B::kName)) {
    return false;
  }
  bool alike = true;
  for (size_t i = 0; i < std::size(A::kHyperNames); ++i) {
    alike &= IsSameText(A::kHyperNames[i], B::kHyperNames[i]);
  }
  for (size_t i = 0; i < std::size(A::kSlotNames); ++i) {
    alike &= IsSameText(A::kSlotNames[i], B::kSlotNames[i]);
  }
  return alike;
}

// The rules that one optimizer's options choose between. All share kName,
// kHyperNames, kHyperRanges, kSlotNames and kFlagNames.
template <class... Rules>
struct Variants {
  using First = std::tuple_element_t<0, std::tuple<Rules...>>;
  static constexpr const char* kName = First::kName;
  static_assert((IsComplete<Rules>() && ...));
  static_assert((AreAlike<First, Rules>() && ...),
                "all variants must have the same kName, kHyperNames and "
                "kSlotNames");
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

// What tells a rule from the other variants of its optimizer.
constexpr uint32_t VariantKey(uint32_t slot_mask, uint32_t flags) {
  return flags << kMaxSlots | slot_mask;
}

// `is_cautious` is a flag behind the rule's own.
template <class Rule>
constexpr uint32_t VariantKey(bool is_cautious = false) {
  const uint32_t cautious = is_cautious ? 1u << std::size(Rule::kFlagNames) : 0;
  return VariantKey(SlotMask<Rule>(), Rule::kFlags | cautious);
}

// What has to be known of a whole variable before it is updated.
template <class Rule>
inline constexpr bool kMayMeasureVariable =
    Rule::kMeansOver == Over::kVariable || Rule::kMayBeCautious;

template <class Rule>
constexpr bool IsRowSlot(size_t slot) {
  return Rule::kRowSlots >> slot & 1;
}

template <class Rule>
constexpr bool IsPositiveSlot(size_t slot) {
  return Rule::kPositiveSlots >> slot & 1;
}

// The step's coefficients in computation type C, made in float64.
template <class Rule, class C>
constexpr typename Rule::template Coefficients<C> PrepareAs(
    const typename Rule::template Hyper<double>& hyper,
    const Step<double>& step) {
  typename Rule::template Coefficients<C> coefficients = {};
  MapFields(Rule::Prepare(hyper, step), coefficients,
            [](double x) { return static_cast<C>(x); });
  return coefficients;
}

// How many means the rule asks for.
template <class Rule>
constexpr size_t CountMeans() {
  if constexpr (Rule::kMeansOver == Over::kNothing) return 0;
  return kFieldCount<typename Rule::template Means<double>>;
}

// Update of a rule that asks for means.
template <class Rule, class V, class Slots, class Coefficients, class Means>
constexpr V UpdateWithMeans(V p, [[maybe_unused]] V g, Slots& slots,
                            const Coefficients& coefficients,
                            const Means& means) {
  if constexpr (Rule::kMeasureChangesSlots) {
    return Rule::Update(p, slots, coefficients, means);
  } else {
    return Rule::Update(p, g, slots, coefficients, means);
  }
}

// Calls f(Rule{}, whether it is cautious) for the variant of this VariantKey;
// false if there is none. What f is told is known at compile time.
template <class... Rules, class F>
bool VisitVariant(Variants<Rules...>, uint32_t key, F&& f) {
  const auto visit = [&](auto rule) {
    using Rule = decltype(rule);
    if (key == VariantKey<Rule>()) {
      f(rule, std::false_type());
      return true;
    }
    if constexpr (Rule::kMayBeCautious) {
      if (key == VariantKey<Rule>(true)) {
        f(rule, std::true_type());
        return true;
      }
    }
    return false;
  };
  return (visit(Rules{}) || ...);
}

// What every optimizer does to a gradient and a variable before its own
// formula, so that clipping, loss scales and weight decay cost no pass of
// their own:  g = clip(g * gradient_scale, +-clip_value);  p -= decay * p.
template <class V>
struct ClipAndDecay {
  V gradient_scale;
  V clip_value;
  V decay;  // learning_rate * weight_decay
};

// The bound that an op's clip_value stands for. 0 is none, so that no graph has
// to hold an infinity.
template <class V>
constexpr V ClipBound(V clip_value) {
  return IfPositive(clip_value, clip_value, V(kInfinity));
}

// x within -bound and bound.
template <class V>
constexpr V Clipped(V x, V bound) {
  return Min(bound, Max(V(0) - bound, x));
}

template <class V>
constexpr V ClippedGradient(V g, const ClipAndDecay<V>& numbers) {
  const V scaled = g * numbers.gradient_scale;
  return Clipped(scaled, numbers.clip_value);
}

template <class V>
constexpr V DecayedVariable(V p, const ClipAndDecay<V>& numbers) {
  // No decay leaves an infinite p too as it is: 0 * p is NaN there.
  return IfPositive(Abs(numbers.decay), p - numbers.decay * p, p);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RULE_H_
