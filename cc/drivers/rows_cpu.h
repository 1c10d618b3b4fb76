// Rows of a table, named by sorted ids. Compiled once per instruction set.
//
// Repeated ids: their gradients are added in the order of `indices`, in the
// computation type, before anything else sees them. A row is updated by one
// call, whichever thread makes it, so the bits depend on neither threads nor
// the instruction set.
//
// Prefetch: a table row is a cache miss in each of its streams. The keys say
// which rows come next, so their lines are asked for some rows ahead.
#ifndef TF_OPTIM_CC_DRIVERS_ROWS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_ROWS_CPU_H_

#include <algorithm>

#include "cc/drivers/narrow_rows_cpu.h"

namespace tf_optim {

inline constexpr int64_t kPrefetchRows = 8;
inline constexpr int64_t kPrefetchBytes = 1024;  // of a row, the rest follows
inline constexpr int64_t kCacheLine = 64;
inline constexpr int64_t kSumBlock = 256;  // elements, small enough for L1

template <class Isa, class T>
HWY_INLINE void PrefetchRow(const T* row, int64_t width) {
  const int64_t bytes = std::min<int64_t>(
      width * static_cast<int64_t>(sizeof(T)), kPrefetchBytes);
  const char* p = reinterpret_cast<const char*>(row);
  for (int64_t b = 0; b < bytes; b += kCacheLine) __builtin_prefetch(p + b, 1);
  __builtin_prefetch(p + bytes - 1, 1);  // an unaligned row ends one line later
}

// Of the variable and its slots.
template <class Isa, class Rule, class T>
HWY_INLINE void PrefetchRowOf(const Variable<Rule, T>& variable, int64_t row) {
  const int64_t width = variable.width, element = row * width;
  PrefetchRow<Isa>(variable.var + element, width);
  for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
    if (variable.packed[s] != nullptr) {
      const bool codes = variable.format == SlotFormat::k8Bits;
      const int64_t bytes = codes ? PackedRow{width}.bytes() : 2 * width;
      PrefetchRow<Isa>(variable.packed[s] + row * bytes, bytes);
    } else if (variable.slots[s] != nullptr) {
      const bool of_row = IsRowSlot<Rule>(s);
      PrefetchRow<Isa>(variable.slots[s] + (of_row ? row : element),
                       of_row ? 1 : width);
    }
  }
}

// Whether this is the pass that the gradient has no part in.
template <class Rule>
constexpr bool IsWithoutGradient(const Measured<Rule>* measured) {
  return Rule::kMeasureChangesSlots && measured == nullptr;
}

// grad: nullptr where it is not needed.
template <class Isa, class Rule, class T>
HWY_INLINE void PrefetchId(const Variable<Rule, T>& variable, const T* grad,
                           const SortedIds& ids, int64_t i) {
  const int64_t width = variable.width;
  if (grad != nullptr) PrefetchRow<Isa>(grad + ids.position(i) * width, width);
  if (!ids.begins_run(i)) return;
  PrefetchRowOf<Isa>(variable, ids.id(i));
}

// sum[0, size) = the gradient columns [column, column + size) of sorted
// positions [begin, end), added in that order.
template <class Isa, class T>
HWY_INLINE void SumGradients(const T* grad, int64_t width, int64_t column,
                             int64_t size, const SortedIds& ids, int64_t begin,
                             int64_t end, ComputeType<T>* sum) {
  using In = Lanes<Isa, T>;
  using Out = Lanes<Isa, ComputeType<T>>;
  constexpr int64_t kLanes = In::kLanes;
  const auto row = [&](int64_t i) {
    return grad + ids.position(i) * width + column;
  };
  const auto add = [&](const T* a, const T* b, int64_t j, auto... count) {
    const auto left =
        a != nullptr ? In::Load(a + j, count...) : Out::Load(sum + j, count...);
    Out::Store(left + In::Load(b + j, count...), sum + j, count...);
  };
  for (int64_t i = begin + 1; i < end; ++i) {
    const T* first = i == begin + 1 ? row(begin) : nullptr;
    const T* next = row(i);
    int64_t j = 0;
    for (; j + kLanes <= size; j += kLanes) add(first, next, j);
    if (j < size) add(first, next, j, size - j);
  }
}

// A pass over the row of sorted positions [begin, end), which share one id.
template <class Isa, class Rule, class T>
HWY_INLINE void RunRow(const Variable<Rule, T>& variable, const T* grad,
                       const SortedIds& ids, int64_t begin, int64_t end,
                       const CoefficientsOf<Rule, T>& coefficients,
                       Measured<Rule>* measured) {
  const int64_t width = variable.width, element = ids.id(begin) * width;
  const auto run = [&](int64_t from, int64_t size, const auto& gradient) {
    RunRows<Isa>(variable, from, from + size, coefficients, measured, gradient);
  };
  if constexpr (Rule::kMeasureChangesSlots) {
    if (IsWithoutGradient<Rule>(measured)) {
      run(element, width, NoGradient<Isa, T>{});
      return;
    }
  }
  if (end - begin == 1) {
    run(element, width,
        GradientFrom<Isa, T>{grad + ids.position(begin) * width, element});
    return;
  }
  using C = ComputeType<T>;
  C sum[kSumBlock];
  const auto in_blocks = [&](const auto& work) {
    for (int64_t column = 0; column < width; column += kSumBlock) {
      const int64_t size = std::min(kSumBlock, width - column);
      SumGradients<Isa>(grad, width, column, size, ids, begin, end, sum);
      work(element + column, size);
    }
  };
  if constexpr (Rule::kMeansOver == Over::kRow) {
    if (width > kSumBlock) {  // all of it is measured before it is updated
      const auto row = MeasureRow(
          variable, ids.id(begin),
          [&](const auto& begun, Measured<Rule>* sums) {
            in_blocks([&](int64_t from, int64_t size) {
              Span<Isa, Rule, T>{variable, from,   size, coefficients,
                                 {},       &begun, sums}
                  .template Run<Pass::kMeasure>(GradientInMemory<Isa, C>{sum});
            });
          });
      in_blocks([&](int64_t from, int64_t size) {
        Span<Isa, Rule, T>{variable, from, size, coefficients, row.means, &row}
            .template Run<Pass::kUpdate>(GradientInMemory<Isa, C>{sum});
      });
      return;
    }
  }
  in_blocks([&](int64_t from, int64_t size) {
    run(from, size, GradientFrom<Isa, C>{sum, from});
  });
}

// The end of the run of equal ids that begins at sorted position i.
template <class Isa>
HWY_INLINE int64_t RunEnd(const SortedIds& ids, int64_t i) {
  int64_t end = i + 1;
  while (end < ids.count && ids.id(end) == ids.id(i)) ++end;
  return end;
}

template <class Isa, class Rule, class T>
void PassLazyRows(const Variable<Rule, T>& variable, const T* grad,
                  const SortedIds& ids, int64_t begin, int64_t end,
                  const CoefficientsOf<Rule, T>& coefficients,
                  Measured<Rule>* measured) {
  // A run belongs to the range in which it begins.
  while (begin < end && !ids.begins_run(begin)) ++begin;
  if constexpr (kMayGather<Rule, T>) {
    if (AreNarrow(variable)) {
      PassNarrowRows<Isa>(variable, grad, ids, begin, end, coefficients);
      return;
    }
  }
  const T* prefetched_grad = IsWithoutGradient<Rule>(measured) ? nullptr : grad;
  int64_t prefetched = begin;
  for (int64_t i = begin; i < end;) {
    const int64_t run_end = RunEnd<Isa>(ids, i);
    const int64_t ahead = std::min(ids.count, run_end + kPrefetchRows);
    for (; prefetched < ahead; ++prefetched) {
      PrefetchId<Isa, Rule, T>(variable, prefetched_grad, ids, prefetched);
    }
    RunRow<Isa, Rule, T>(variable, grad, ids, i, run_end, coefficients,
                         measured);
    i = run_end;
  }
}

// The first sorted position whose id is at least `id`.
template <class Isa>
HWY_INLINE int64_t FirstPositionOf(const SortedIds& ids, int64_t id) {
  int64_t low = 0, high = ids.count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (ids.id(middle) < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <class Isa, class Rule, class T>
void PassAllRows(const Variable<Rule, T>& variable, const T* grad,
                 const SortedIds& ids, int64_t begin, int64_t end,
                 const CoefficientsOf<Rule, T>& coefficients,
                 Measured<Rule>* measured) {
  const int64_t first = FirstPositionOf<Isa>(ids, begin);
  if constexpr (kMayGather<Rule, T>) {
    if (AreNarrow(variable)) {
      const int64_t named = FirstPositionOf<Isa>(ids, end) - first;
      if (named * kNamedSeldom >= (end - begin) * variable.width) {
        PassAllNarrowRows<Isa>(variable, grad, ids, first, begin, end,
                               coefficients);
        return;
      }
    }
  }
  int64_t row = begin;
  const auto run_idle_rows = [&](int64_t until) {
    RunRows<Isa>(variable, row * variable.width, until * variable.width,
                 coefficients, measured, NoGradient<Isa, T>{});
  };
  for (int64_t i = first; i < ids.count && ids.id(i) < end;) {
    const int64_t run_end = RunEnd<Isa>(ids, i);
    run_idle_rows(ids.id(i));
    RunRow<Isa, Rule, T>(variable, grad, ids, i, run_end, coefficients,
                         measured);
    row = ids.id(i) + 1;
    i = run_end;
  }
  run_idle_rows(end);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_ROWS_CPU_H_
