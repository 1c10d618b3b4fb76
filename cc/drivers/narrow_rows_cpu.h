// Rows of a few elements, as those of wide features: stepped together where a
// rule looks at elements alone. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_NARROW_ROWS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_NARROW_ROWS_CPU_H_

#include <algorithm>
#include <type_traits>

#include "cc/drivers/row_spans_cpu.h"

namespace tf_optim {

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
         variable.format == SlotFormat::kPlain && !variable.is_cautious;
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

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_NARROW_ROWS_CPU_H_
