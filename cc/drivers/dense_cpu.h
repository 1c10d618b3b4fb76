// One step of a list of variables with dense gradients, on the CPU.
#ifndef TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_

#include <algorithm>
#include <vector>

#include "cc/drivers/passes_cpu.h"

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

template <class Rule, class T>
constexpr double BytesPerElement() {
  int slots = 0;
  uint32_t mask = SlotMask<Rule>() & ~Rule::kRowSlots;
  for (; mask != 0; mask &= mask - 1) ++slots;
  return 3 * sizeof(T) + 2 * slots * sizeof(ComputeType<T>);
}

// Sets the variables' means, if the rule has such.
template <class Rule, class T>
void ApplyDense(std::vector<DenseItem<Rule, T>>* items,
                const CoefficientsOf<Rule, T>& coefficients,
                const CpuKernels<Rule, T>& kernels,
                const ParallelFor& parallel_for) {
  constexpr bool by_row = Rule::kMeansOver == Over::kRow;
  constexpr int64_t chunk =
      Rule::kMeansOver == Over::kVariable ? kMeasuredChunk : kDenseChunk;
  Chunks chunks;
  for (const auto& item : *items) {
    const int64_t width =
        by_row ? std::max<int64_t>(1, item.variable.width) : 1;
    chunks.Add(item.size, (chunk + width - 1) / width * width,
               MemoryCost(BytesPerElement<Rule, T>()));
  }
  RunPasses<Rule, T>(chunks, items, parallel_for,
                     [&](const auto& item, size_t, int64_t begin, int64_t end,
                         Measured<Rule>* measured) {
                       kernels.dense(item.variable, item.grad, begin, end,
                                     coefficients, measured);
                     });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_
