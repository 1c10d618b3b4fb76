// Passes over whole rows that lie side by side. A rule with means over a row
// measures it before it updates it. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_ROW_SPANS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_ROW_SPANS_CPU_H_

#include <algorithm>

#include "cc/drivers/spans_cpu.h"

namespace tf_optim {

// The gradient of a run of elements, from any of them on: in memory, of which
// data[0] belongs to element `first`, or zero.
template <class Isa, class T>
struct GradientFrom {
  const T* data;
  int64_t first;
  HWY_INLINE auto At(int64_t element) const {
    return GradientInMemory<Isa, T>{data + (element - first)};
  }
};

template <class Isa, class T>
struct NoGradient {
  HWY_INLINE auto At(int64_t) const { return ZeroGradient<Isa, T>{}; }
};

// measure(row, &measured) takes the measures of the row.
template <class Rule, class T, class Measure>
HWY_INLINE MeasuredRow<Rule, T> MeasureRow(const Variable<Rule, T>& variable,
                                           int64_t number,
                                           const Measure& measure) {
  MeasuredRow<Rule, T> row = {number};
  for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
    if (IsRowSlot<Rule>(s)) row.slots[s] = variable.slots[s][number];
  }
  Measured<Rule> measured;
  measure(row, &measured);
  row.means = measured.template Means<T>();
  return row;
}

// Elements that are counted in a float.
inline constexpr int64_t kCounted = 1 << 20;

// A pass over elements [begin, end), whole rows if the rule looks at rows. One
// function for all who have the same kind of gradient.
template <class Isa, class Rule, class T, class Gradient>
HWY_NOINLINE void RunRows(const Variable<Rule, T>& variable, int64_t begin,
                          int64_t end,
                          const CoefficientsOf<Rule, T>& coefficients,
                          Measured<Rule>* measured, const Gradient& gradient) {
  if (begin >= end) return;
  const int64_t width = variable.width;
  if constexpr (Rule::kMeansOver == Over::kRow) {
    if (width == 1) {
      Span<Isa, Rule, T>{variable, begin, end - begin, coefficients}
          .template Run<Pass::kUpdateEach>(gradient.At(begin));
      return;
    }
    // A row's update waits for the division and root of what was measured of
    // it: meanwhile the processor measures others.
    constexpr int64_t kTogether = 4;
    const int64_t end_row = end / width;
    for (int64_t first = begin / width; first < end_row; first += kTogether) {
      const int64_t rows = std::min(kTogether, end_row - first);
      MeasuredRow<Rule, T> row[kTogether];
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (first + r) * width, following = end - at - width;
        row[r] = MeasureRow(
            variable, first + r,
            [&](const auto& begun, Measured<Rule>* sums)
                __attribute__((always_inline)) {
                  Span<Isa, Rule, T>{variable, at,     width, coefficients,
                                     {},       &begun, sums,  following}
                      .template Run<Pass::kMeasure>(gradient.At(at));
                });
      }
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = row[r].number * width;
        Span<Isa, Rule, T>{variable,     at,           width,
                           coefficients, row[r].means, &row[r]}
            .template Run<Pass::kUpdate>(gradient.At(at));
      }
    }
  } else {
    if constexpr (Rule::kMayBeCautious) {
      if (measured != nullptr) {
        for (int64_t b = begin; b < end; b += kCounted) {
          Span<Isa, Rule, T>{variable,     b,  std::min(kCounted, end - b),
                             coefficients, {}, nullptr,
                             measured}
              .CountAgreeing(gradient.At(b));
        }
        return;
      }
    }
    const Span<Isa, Rule, T> span = {variable,     begin,          end - begin,
                                     coefficients, variable.means, nullptr,
                                     measured};
    if constexpr (Rule::kMeansOver == Over::kVariable) {
      if (measured != nullptr) {
        span.template Run<Pass::kMeasure>(gradient.At(begin));
        return;
      }
    }
    span.template Run<Pass::kUpdate>(gradient.At(begin));
  }
}

template <class Isa, class Rule, class T>
void PassDense(const Variable<Rule, T>& variable, const T* grad, int64_t begin,
               int64_t end, const CoefficientsOf<Rule, T>& coefficients,
               Measured<Rule>* measured) {
  RunRows<Isa>(variable, begin, end, coefficients, measured,
               GradientFrom<Isa, T>{grad, 0});
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_ROW_SPANS_CPU_H_
