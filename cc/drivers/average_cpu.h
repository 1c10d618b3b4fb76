// The loops over moving averages. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_AVERAGE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_AVERAGE_CPU_H_

#include <algorithm>

#include "cc/drivers/average.h"
#include "cc/drivers/rows_cpu.h"

namespace tf_optim {

// `ahead`: where the memory is that comes next, 0 if that is not known.
template <class Isa, class T>
HWY_INLINE void MoveAverage(T* average, const T* var, int64_t size, double kept,
                            int64_t ahead = 0) {
  using L = Lanes<Isa, T>;
  using V = typename L::V;
  if (kept == 1) return;
  const V keep(kept), take(1 - kept);
  const auto run = [&](int64_t i, auto... count) {
    L::Store(keep * L::Load(average + i, count...) +
                 take * L::Load(var + i, count...),
             average + i, count...);
  };
  int64_t i = 0;
  for (; i + L::kLanes <= size; i += L::kLanes) {
    __builtin_prefetch(average + i + ahead, 1);
    run(i);
  }
  if (i < size) run(i, size - i);
}

template <class Isa, class T>
void AverageSpan(const Average<T>& average, T* var, int64_t begin, int64_t end,
                 const Averaging& averaging) {
  MoveAverage<Isa>(average.data + begin, var + begin, end - begin,
                   averaging.Kept(), kPrefetchAhead);
  if (averaging.Gives()) {
    __builtin_memcpy(var + begin, average.data + begin,
                     static_cast<size_t>(end - begin) * sizeof(T));
  }
}

template <class Isa, class T>
void CatchUpAverageRows(const Average<T>& average, const T* var, int64_t width,
                        const SortedIds& ids, int64_t begin, int64_t end,
                        const Averaging& averaging) {
  for (int64_t i = begin; i < end; ++i) {
    if (i + kPrefetchRows < ids.count) {
      const int64_t next = ids.id(i + kPrefetchRows);
      PrefetchRow<Isa>(average.data + next * width, width);
      PrefetchRow<Isa>(var + next * width, width);
      PrefetchRow<Isa>(average.updates_seen + next, 1);
    }
    if (!ids.begins_run(i)) continue;
    const int64_t row = ids.id(i);
    const double kept =
        averaging.KeptBy(average.updates_seen[row], averaging.updates());
    MoveAverage<Isa>(average.data + row * width, var + row * width, width,
                     kept);
  }
}

template <class Isa, class T>
void AverageRows(const Average<T>& average, const T* var, int64_t width,
                 const SortedIds& ids, int64_t begin, int64_t end,
                 const Averaging& averaging) {
  for (int64_t i = begin; i < end; ++i) {
    if (!ids.begins_run(i)) continue;
    const int64_t row = ids.id(i);
    MoveAverage<Isa>(average.data + row * width, var + row * width, width,
                     averaging.KeptOfNamed());
    average.updates_seen[row] = static_cast<int32_t>(averaging.SeenByNamed());
  }
}

template <class Isa, class T>
void GiveAverageRows(const Average<T>& average, T* var, int64_t width,
                     int64_t begin, int64_t end, const Averaging& averaging) {
  for (int64_t row = begin; row < end; ++row) {
    if (average.updates_seen[row] <= averaging.updates()) continue;
    AverageSpan<Isa>(average, var, row * width, (row + 1) * width, averaging);
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_AVERAGE_CPU_H_
