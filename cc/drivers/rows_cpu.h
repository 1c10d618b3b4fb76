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
#include <type_traits>

#include "cc/drivers/row_spans_cpu.h"

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
  if (i > 0 && ids.id(i - 1) == ids.id(i)) return;
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
  C block[kSumBlock];
  // A rule that looks at rows needs all of one. Nothing below throws, and an
  // object with a destructor would be unwound by symbols that name no
  // instruction set.
  const bool is_wide = Rule::kMeansOver == Over::kRow && width > kSumBlock;
  C* const whole_row = is_wide ? new C[width] : nullptr;
  C* const sum = is_wide ? whole_row : block;
  const int64_t most = is_wide ? width : kSumBlock;
  for (int64_t column = 0; column < width; column += most) {
    const int64_t size = std::min(most, width - column);
    SumGradients<Isa>(grad, width, column, size, ids, begin, end, sum);
    run(element + column, size, GradientFrom<Isa, C>{sum, element + column});
  }
  delete[] whole_row;
}

// The end of the run of equal ids that begins at sorted position i.
template <class Isa>
HWY_INLINE int64_t RunEnd(const SortedIds& ids, int64_t i) {
  int64_t end = i + 1;
  while (end < ids.count && ids.id(end) == ids.id(i)) ++end;
  return end;
}

// Narrow rows that a gradient names are copied together, run through the loop
// of dense gradients, and copied back: on its own each would cost more than its
// elements.
inline constexpr int64_t kNarrow = 4;       // elements
inline constexpr int64_t kGathered = 256;   // elements at a time
inline constexpr int64_t kGradsAhead = 16;  // whose memory is asked for

// Whether the rule looks at nothing but elements, which may then lie anywhere.
// Gradients are summed in the computation type.
template <class Rule, class T>
inline constexpr bool kMayGather =
    Rule::kMeansOver == Over::kNothing && Rule::kRowSlots == 0 &&
    std::is_same_v<T, ComputeType<T>>;

template <class Rule, class T>
constexpr bool AreNarrow(const Variable<Rule, T>& variable) {
  return kMayGather<Rule, T> && variable.width <= kNarrow &&
         variable.format == SlotFormat::kPlain;
}

// Calls f(width) with it known to the compiler, where that is usual.
template <class F>
HWY_INLINE void WithWidth(int64_t width, const F& f) {
  switch (width) {
    case 1:
      return f(std::integral_constant<int64_t, 1>());
    case 2:
      return f(std::integral_constant<int64_t, 2>());
    case 4:
      return f(std::integral_constant<int64_t, 4>());
    default:
      return f(width);
  }
}

// Some rows and their gradients, side by side.
template <class T>
struct NarrowRows {
  int64_t count = 0;
  int64_t rows[kGathered];
  T sums[kGathered];
};

// sum[0, width) = the gradient of the row whose ids begin at sorted position i.
// Returns the position behind them.
template <class Isa, class T, class Width>
HWY_INLINE int64_t SumNarrowRow(const T* grad, Width width,
                                const SortedIds& ids, int64_t i, T* sum) {
  const int64_t row = ids.id(i);
  const T* const first = grad + ids.position(i) * width;
  for (int64_t j = 0; j < width; ++j) sum[j] = first[j];  // -0 stays -0
  for (++i; i < ids.count && ids.id(i) == row; ++i) {
    const T* const next = grad + ids.position(i) * width;
    for (int64_t j = 0; j < width; ++j) sum[j] += next[j];
  }
  return i;
}

// The rows of sorted positions [begin, end), as many as there is room for.
// Returns the position behind them.
template <class Isa, class T>
HWY_NOINLINE int64_t SumNarrowRows(const T* grad, int64_t width,
                                   const SortedIds& ids, int64_t begin,
                                   int64_t end, NarrowRows<T>* out) {
  const int64_t most = kGathered / width;
  int64_t i = begin, count = 0;
  WithWidth(width, [&](auto w) {
    T* sum = out->sums;
    for (; i < end && count < most; ++count, sum += w) {
      out->rows[count] = ids.id(i);
      i = SumNarrowRow<Isa>(grad, w, ids, i, sum);
      const int64_t ahead = std::min(i + kGradsAhead, ids.count - 1);
      __builtin_prefetch(grad + ids.position(ahead) * w);
    }
  });
  out->count = count;
  return i;
}

template <class Isa, class T>
HWY_NOINLINE void PrefetchRows(const T* table, int64_t width,
                               const NarrowRows<T>& which) {
  for (int64_t r = 0; r < which.count; ++r) {
    __builtin_prefetch(table + which.rows[r] * width, 1);
  }
}

template <class Isa, class T>
HWY_NOINLINE void GatherRows(const T* table, int64_t width,
                             const NarrowRows<T>& which, T* out) {
  WithWidth(width, [&](auto w) {
    for (int64_t r = 0; r < which.count; ++r) {
      const T* row = table + which.rows[r] * w;
      for (int64_t j = 0; j < w; ++j) out[r * w + j] = row[j];
    }
  });
}

template <class Isa, class T>
HWY_NOINLINE void ScatterRows(const T* in, int64_t width,
                              const NarrowRows<T>& which, T* table) {
  WithWidth(width, [&](auto w) {
    for (int64_t r = 0; r < which.count; ++r) {
      T* row = table + which.rows[r] * w;
      for (int64_t j = 0; j < w; ++j) row[j] = in[r * w + j];
    }
  });
}

template <class Isa, class Rule, class T>
HWY_NOINLINE void PassNarrowRows(const Variable<Rule, T>& variable,
                                 const T* grad, const SortedIds& ids,
                                 int64_t begin, int64_t end,
                                 const CoefficientsOf<Rule, T>& coefficients) {
  const int64_t width = variable.width;
  constexpr int64_t kStreams = kSlotFields<Rule> + 1;
  alignas(64) T gathered[kStreams][kGathered];
  T* streams[kStreams] = {variable.var};
  Variable<Rule, T> together = variable;
  together.var = gathered[0];
  for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
    streams[s + 1] = variable.slots[s];
    if (variable.slots[s] != nullptr) together.slots[s] = gathered[s + 1];
  }
  const auto for_each_stream = [&](const auto& f) {
    for (int64_t s = 0; s < kStreams; ++s) {
      if (streams[s] != nullptr) f(streams[s], gathered[s]);
    }
  };
  // The next ones are asked for while these are worked on.
  NarrowRows<T> parts[2];
  const auto take = [&](int64_t from, NarrowRows<T>* part) {
    const int64_t behind =
        SumNarrowRows<Isa>(grad, width, ids, from, end, part);
    for_each_stream(
        [&](const T* table, T*) { PrefetchRows<Isa>(table, width, *part); });
    return behind;
  };
  int64_t at = take(begin, &parts[0]);
  for (int now = 0; parts[now].count > 0; now = 1 - now) {
    at = take(at, &parts[1 - now]);
    const NarrowRows<T>& part = parts[now];
    for_each_stream([&](const T* table, T* side) {
      GatherRows<Isa>(table, width, part, side);
    });
    PassDense<Isa, Rule, T>(together, part.sums, 0, part.count * width,
                            coefficients, nullptr);
    for_each_stream([&](T* table, const T* side) {
      ScatterRows<Isa>(side, width, part, table);
    });
  }
}

template <class Isa, class Rule, class T>
void PassLazyRows(const Variable<Rule, T>& variable, const T* grad,
                  const SortedIds& ids, int64_t begin, int64_t end,
                  const CoefficientsOf<Rule, T>& coefficients,
                  Measured<Rule>* measured) {
  // A run belongs to the range in which it begins.
  while (begin > 0 && begin < end && ids.id(begin) == ids.id(begin - 1)) {
    ++begin;
  }
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

// Narrow rows of which many are named: their gradient is made a dense one.
inline constexpr int64_t kDenseBlock = 2048;  // elements
inline constexpr int64_t kNamedSeldom = 64;   // elements for each id

template <class Isa, class Rule, class T>
HWY_NOINLINE void PassAllNarrowRows(
    const Variable<Rule, T>& variable, const T* grad, const SortedIds& ids,
    int64_t at, int64_t begin, int64_t end,
    const CoefficientsOf<Rule, T>& coefficients) {
  const int64_t width = variable.width;
  const int64_t most = kDenseBlock / width;
  alignas(64) T dense[kDenseBlock];
  for (int64_t row = begin; row < end; row += most) {
    const int64_t rows = std::min(most, end - row);
    std::fill(dense, dense + rows * width, T(0));
    while (at < ids.count && ids.id(at) < row + rows) {
      T* const sum = dense + (ids.id(at) - row) * width;
      at = SumNarrowRow<Isa>(grad, width, ids, at, sum);
    }
    Variable<Rule, T> part = variable;
    const auto skip = [&](T*& stream) {
      if (stream != nullptr) stream += row * width;
    };
    skip(part.var);
    for (T*& slot : part.slots) skip(slot);
    PassDense<Isa, Rule, T>(part, dense, 0, rows * width, coefficients,
                            nullptr);
  }
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
