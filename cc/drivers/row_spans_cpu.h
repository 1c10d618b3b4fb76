// Passes over whole rows that lie side by side. A rule with means over a row
// measures it before it updates it. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_ROW_SPANS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_ROW_SPANS_CPU_H_

#include <algorithm>

#include "cc/drivers/spans_cpu.h"

namespace tf_optim {

template <class Isa, class Rule, class T, class Visit>
HWY_INLINE MeasuredRow<Rule, T> MeasureRow(
    const Variable<Rule, T>& variable, int64_t number,
    const CoefficientsOf<Rule, T>& coefficients, const Visit& visit,
    int64_t following = 0) {
  MeasuredRow<Rule, T> row = {number};
  for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
    if (IsRowSlot<Rule>(s)) row.slots[s] = variable.slots[s][number];
  }
  Measured<Rule> measured;
  visit([&](int64_t begin, int64_t size,
            const auto& gradient) __attribute__((always_inline)) {
    Span<Isa, Rule, T> span = {variable, begin, size,      coefficients,
                               {},       &row,  &measured, following};
    span.template Run<Pass::kMeasure>(gradient);
  });
  row.means = measured.template Means<T>();
  return row;
}

template <class Isa, class Rule, class T, class Visit>
HWY_INLINE void UpdateRow(const Variable<Rule, T>& variable,
                          const CoefficientsOf<Rule, T>& coefficients,
                          const MeasuredRow<Rule, T>& row, const Visit& visit) {
  visit([&](int64_t begin, int64_t size,
            const auto& gradient) __attribute__((always_inline)) {
    Span<Isa, Rule, T>{variable, begin, size, coefficients, row.means, &row}
        .template Run<Pass::kUpdate>(gradient);
  });
}

// A pass over parts of one row, or of a variable whose rule does not look at
// rows. visit(f) calls f(begin, size, gradient) for each part in order, and may
// be called twice.
template <class Isa, class Rule, class T, class Visit>
HWY_INLINE void RunParts(const Variable<Rule, T>& variable,
                         [[maybe_unused]] int64_t row_number,
                         const CoefficientsOf<Rule, T>& coefficients,
                         Measured<Rule>* measured, const Visit& visit) {
  if constexpr (Rule::kMeansOver == Over::kRow) {
    const auto row =
        MeasureRow<Isa, Rule, T>(variable, row_number, coefficients, visit);
    UpdateRow<Isa, Rule, T>(variable, coefficients, row, visit);
  } else {
    visit([&](int64_t begin, int64_t size, const auto& gradient) {
      const Span<Isa, Rule, T> span = {variable,     begin,          size,
                                       coefficients, variable.means, nullptr,
                                       measured};
      if constexpr (Rule::kMeansOver == Over::kVariable) {
        if (measured != nullptr) {
          span.template Run<Pass::kMeasure>(gradient);
          return;
        }
      }
      span.template Run<Pass::kUpdate>(gradient);
    });
  }
}

// The same over whole rows, whose gradient lies in memory or is zero.
// gradient_at(i) is that of element i and those behind it.
template <class Isa, class Rule, class T, class GradientAt>
HWY_INLINE void RunRows(const Variable<Rule, T>& variable, int64_t begin,
                        int64_t end,
                        const CoefficientsOf<Rule, T>& coefficients,
                        Measured<Rule>* measured,
                        const GradientAt& gradient_at) {
  const int64_t width = variable.width;
  const auto part = [&](int64_t first, int64_t size) {
    return [&gradient_at, first, size](const auto& f)
               __attribute__((always_inline)) {
                 f(first, size, gradient_at(first));
               };
  };
  if constexpr (Rule::kMeansOver == Over::kRow) {
    if (width == 1) {
      Span<Isa, Rule, T>{variable, begin, end - begin, coefficients}
          .template Run<Pass::kUpdateEach>(gradient_at(begin));
      return;
    }
    // A row's update waits for the division and root of what was measured of
    // it: meanwhile the processor measures others.
    constexpr int64_t kTogether = 4;
    const int64_t end_row = end / width;
    for (int64_t first = begin / width; first < end_row; first += kTogether) {
      const int64_t rows = std::min(kTogether, end_row - first);
      const auto row_part = [&](int64_t r) {
        return part((first + r) * width, width);
      };
      MeasuredRow<Rule, T> row[kTogether];
      for (int64_t r = 0; r < rows; ++r) {
        row[r] = MeasureRow<Isa, Rule, T>(variable, first + r, coefficients,
                                          row_part(r),
                                          (end_row - first - r - 1) * width);
      }
      for (int64_t r = 0; r < rows; ++r) {
        UpdateRow<Isa, Rule, T>(variable, coefficients, row[r], row_part(r));
      }
    }
  } else if (begin < end) {
    RunParts<Isa>(variable, 0, coefficients, measured,
                  part(begin, end - begin));
  }
}

template <class Isa, class Rule, class T>
void PassDense(const Variable<Rule, T>& variable, const T* grad, int64_t begin,
               int64_t end, const CoefficientsOf<Rule, T>& coefficients,
               Measured<Rule>* measured) {
  RunRows<Isa>(variable, begin, end, coefficients, measured,
               [&](int64_t i) { return GradientInMemory<Isa, T>{grad + i}; });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_ROW_SPANS_CPU_H_
