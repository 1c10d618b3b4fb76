// What the CPU drivers work on, and the kernels they call: one set of function
// pointers per rule, storage type and instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_CPU_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "cc/rules/cautious.h"
#include "cc/rules/rule.h"
#include "cc/values/packed.h"
#include "cc/values/storage.h"

namespace tf_optim {

template <class Rule, class T>
using CoefficientsOf = typename Rule::template Coefficients<ComputeType<T>>;

template <class Rule, class T>
using MeansOf = typename Rule::template Means<ComputeType<T>>;

// What the variables of a step have in common, or each has for itself.
template <class Value>
class ForVariables {
 public:
  ForVariables(const Value& all) : values_(1, all) {}  // NOLINT: is one, too
  explicit ForVariables(std::vector<Value> each) : values_(std::move(each)) {}

  const Value& at(size_t i) const {
    return values_[values_.size() == 1 ? 0 : i];
  }

  // The same of f(value).
  template <class F>
  auto Map(const F& f) const {
    std::vector<decltype(f(values_[0]))> mapped;
    mapped.reserve(values_.size());
    for (const Value& value : values_) mapped.push_back(f(value));
    return ForVariables<decltype(f(values_[0]))>(std::move(mapped));
  }

 private:
  std::vector<Value> values_;
};

// So many elements ahead a loop over a long run asks memory for what it comes
// to: a processor that is left to itself asks for too little at a time.
inline constexpr int64_t kPrefetchAhead = 512;

// A variable with its slots, in memory, and what is special to it in this
// step. Slots that the rule leaves out stay null.
template <class Rule, class T>
struct Variable {
  T* var = nullptr;
  int64_t width = 1;  // elements of a row
  ComputeType<T>* slots[kSlotFields<Rule>] = {};
  // Slots that are packed (values/packed.h) are here instead. Row slots are
  // not.
  SlotFormat format = SlotFormat::kPlain;
  uint8_t* packed[kSlotFields<Rule>] = {};
  // What packed slots draw from when they are rounded; 0 rounds to nearest.
  uint64_t rounding = 0;
  bool rounds_var = false;  // a 16-bit variable draws too
  bool clips_or_decays = false;
  ClipAndDecay<ComputeType<T>> clip_and_decay = {};
  MeansOf<Rule, T> means = {};  // over the variable, if the rule has such
  // The step is a cautious one, and the steps that are taken so much longer.
  bool is_cautious = false;
  ComputeType<T> lengthened_by = 0;
  int64_t measured_elements = 0;  // if not 0: more than a pass comes to
};

// What Measure returned, summed over some elements, in an order that depends on
// nothing but their number. Of a cautious step: how many elements agree.
template <class Rule>
struct Measured {
  double sums[CountMeans<Rule>() + 1] = {};  // one more than there are means
  int64_t count = 0;

  Measured& operator+=(const Measured& other) {
    for (size_t i = 0; i <= CountMeans<Rule>(); ++i) sums[i] += other.sums[i];
    count += other.count;
    return *this;
  }

  template <class T>
  MeansOf<Rule, T> Means() const {
    MeansOf<Rule, T> means = {};
    if constexpr (CountMeans<Rule>() > 0) {
      ForEachField(means, [&](auto i, auto& mean) {
        mean =
            static_cast<ComputeType<T>>(sums[i] / static_cast<double>(count));
      });
    }
    return means;
  }

  // What the step needs to know of a whole variable.
  template <class T>
  void SetMeans(Variable<Rule, T>* variable) const {
    variable->means = Means<T>();
    if constexpr (Rule::kMayBeCautious) {
      const auto of =
          static_cast<double>(std::max(count, variable->measured_elements));
      variable->lengthened_by =
          LengthenedBy(static_cast<ComputeType<T>>(sums[0] / of));
    }
  }
};

// Whether a pass over all variables measures them before they are updated.
template <class Rule, class T>
constexpr bool IsMeasured(const Variable<Rule, T>& variable) {
  if (Rule::kMeansOver == Over::kVariable) return true;
  return Rule::kMayBeCautious && variable.is_cautious;
}

// Where a variable may be cut into pieces: multiples of so many elements.
template <class Rule, class T>
constexpr int64_t PieceOf(const Variable<Rule, T>& variable) {
  const int64_t width = std::max<int64_t>(1, variable.width);
  if (Rule::kMeansOver == Over::kRow) return width;
  if (variable.format != SlotFormat::k8Bits) return 1;
  return width % kPackedBlock == 0 ? kPackedBlock : width;
}

// Says how to clip and decay, unless that would change nothing. clip_value is
// the op's, 0 for none.
template <class Rule, class T>
constexpr void SetClipAndDecay(double gradient_scale, double clip_value,
                               double decay, Variable<Rule, T>* variable) {
  using C = ComputeType<T>;
  const double bound = ClipBound(clip_value);
  variable->clip_and_decay = {static_cast<C>(gradient_scale),
                              static_cast<C>(bound), static_cast<C>(decay)};
  variable->clips_or_decays =
      gradient_scale != 1 || !std::isinf(bound) || decay != 0;
}

enum class SparseMode {
  kLazy,   // rows in `indices` only
  kDense,  // every row, as if the gradient were dense
};

// Sorted ids: each key is id << position_bits | position in `indices`.
struct SortedIds {
  const uint64_t* keys = nullptr;
  int64_t count = 0;
  int position_bits = 0;

  constexpr int64_t id(int64_t i) const {
    return static_cast<int64_t>(keys[i] >> position_bits);
  }
  constexpr int64_t position(int64_t i) const {
    return static_cast<int64_t>(keys[i] & ((uint64_t{1} << position_bits) - 1));
  }
  // Whether it is the first position of its id.
  constexpr bool begins_run(int64_t i) const {
    return i == 0 || id(i) != id(i - 1);
  }
};

template <class Rule>
class IdleHistory;
struct IdleRows;

// Each kernel is one pass over a part of a variable: the update or, if
// `measured` is not null, the measuring that a rule with means over the
// variable, or a cautious step, needs before it.
template <class Rule, class T>
struct CpuKernels {
  // Elements [begin, end) of a variable, whole rows if the rule looks at rows;
  // grad[i] belongs to element i.
  void (*dense)(const Variable<Rule, T>& variable, const T* grad, int64_t begin,
                int64_t end, const CoefficientsOf<Rule, T>& coefficients,
                Measured<Rule>* measured);
  // The rows whose ids begin at sorted positions [begin, end).
  void (*lazy_rows)(const Variable<Rule, T>& variable, const T* grad,
                    const SortedIds& ids, int64_t begin, int64_t end,
                    const CoefficientsOf<Rule, T>& coefficients,
                    Measured<Rule>* measured);
  // Rows [begin, end) of the table, those without an id with a zero gradient.
  void (*all_rows)(const Variable<Rule, T>& variable, const T* grad,
                   const SortedIds& ids, int64_t begin, int64_t end,
                   const CoefficientsOf<Rule, T>& coefficients,
                   Measured<Rule>* measured);
  // Brings rows up to date that missed steps of a history (idle.h), and the
  // variable's moving average if the history has one. rows[count, count +
  // ahead) come next: their memory is asked for.
  void (*catch_up)(const Variable<Rule, T>& variable, T* average,
                   const IdleRows* rows, int64_t count, int64_t ahead,
                   const IdleHistory<Rule>& history);
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CPU_H_
