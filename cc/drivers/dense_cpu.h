// One step of a list of variables with dense gradients, on the CPU.
#ifndef TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_

#include <algorithm>
#include <vector>

#include "cc/drivers/average.h"
#include "cc/drivers/passes_cpu.h"
#include "cc/drivers/update_norms.h"

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

// Elements that are averaged as soon as they are updated: they fit into L1.
inline constexpr int64_t kAveragedBlock = 2048;

template <class Rule, class T>
constexpr double BytesPerElement() {
  int slots = 0;
  uint32_t mask = SlotMask<Rule>() & ~Rule::kRowSlots;
  for (; mask != 0; mask &= mask - 1) ++slots;
  return 3 * sizeof(T) + 2 * slots * sizeof(ComputeType<T>);
}

// At least so many elements, in whole pieces.
template <class Rule, class T>
constexpr int64_t InPieces(const Variable<Rule, T>& variable, int64_t least) {
  const int64_t piece = PieceOf(variable);
  return (least + piece - 1) / piece * piece;
}

// Sets the variables' means, if the rule has such.
template <class Rule, class T>
void ApplyDense(std::vector<DenseItem<Rule, T>>* items,
                const ForVariables<CoefficientsOf<Rule, T>>& coefficients,
                const CpuKernels<Rule, T>& kernels,
                const ParallelFor& parallel_for,
                const Averages<T>& averages = {},
                UpdateNorms<T>* norms = nullptr) {
  // Twice as many where chunks are measured, and as many for what a rule
  // measures in either case: its sums depend on it.
  const bool measures = !items->empty() && IsMeasured(items->front().variable);
  const int64_t least = measures           ? kMeasuredChunk
                        : norms != nullptr ? 2 * kDenseChunk
                                           : kDenseChunk;
  Chunks chunks;
  for (const auto& item : *items) {
    chunks.Add(item.size, InPieces(item.variable, least),
               MemoryCost(BytesPerElement<Rule, T>()));
  }
  if (norms != nullptr) norms->Begin(chunks);
  RunPasses<Rule, T>(
      chunks, items, parallel_for,
      [&](const auto& item, size_t i, int64_t begin, int64_t end,
          Measured<Rule>* measured) {
        const auto pass = [&](int64_t b, int64_t e) {
          kernels.dense(item.variable, item.grad, b, e, coefficients.at(i),
                        measured);
        };
        if (measured != nullptr) return pass(begin, end);
        const Average<T>* const average = averages.at(i);
        const auto move_average = [&](int64_t b, int64_t e) {
          averages.kernels->span(*average, item.variable.var, b, e,
                                 *averages.averaging);
        };
        if (norms == nullptr) {
          if (average == nullptr) return pass(begin, end);
          InBlocks(begin, end, InPieces(item.variable, kAveragedBlock), pass,
                   move_average);
          return;
        }
        const int64_t chunk = InPieces(item.variable, least);
        typename UpdateNorms<T>::Room room;
        for (int64_t b = begin; b < end; b += chunk) {
          const int64_t e = std::min(end, b + chunk);
          norms->Measure(
              chunks.first(i) + b / chunk, &room,
              [&](const auto& visit) { visit(item.variable.var + b, e - b); },
              [&] { pass(b, e); });
          if (average != nullptr) move_average(b, e);
        }
      });
  if (norms != nullptr) norms->End(chunks, items->size());
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_DENSE_CPU_H_
