// One step of a list of variables with dense gradients, on the CPU.
#ifndef TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_

#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/cpu.h"
#include "cc/drivers/denormals.h"

namespace tf_optim {

template <class Rule, class T>
struct DenseItem {
  Variable<Rule, T> variable;
  const T* grad;
  int64_t size;
};

// Elements per chunk: whole cache lines in every stream, and few enough that
// a list of small variables is shared out evenly.
inline constexpr int64_t kDenseChunk = 512;

// Nanoseconds that `bytes` of in-place traffic take one core.
inline double MemoryCost(double bytes) { return bytes / 20; }

template <class Rule, class T>
constexpr double BytesPerElement() {
  int slots = 0;
  for (uint32_t mask = SlotMask<Rule>(); mask != 0; mask &= mask - 1) ++slots;
  return 3 * sizeof(T) + 2 * slots * sizeof(ComputeType<T>);
}

template <class Rule, class T>
void ApplyDense(const std::vector<DenseItem<Rule, T>>& items,
                const CoefficientsOf<Rule, T>& coefficients,
                const CpuKernels<Rule, T>& kernels,
                const ParallelFor& parallel_for) {
  Chunks chunks(kDenseChunk);
  for (const auto& item : items) chunks.Add(item.size);
  const double cost = MemoryCost(kDenseChunk * BytesPerElement<Rule, T>());
  parallel_for(chunks.count(), cost, [&](int64_t first, int64_t last) {
    const ScopedFlushDenormals flush;
    chunks.ForEach(first, last, [&](size_t i, int64_t begin, int64_t end) {
      kernels.dense(items[i].variable, items[i].grad, begin, end, coefficients);
    });
  });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_
