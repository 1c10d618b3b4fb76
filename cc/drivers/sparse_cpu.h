// One step of a list of tables with sparse gradients, on the CPU: updates rows
// in parallel once the ids of every table are sorted. Sorting checks every id
// before anything is written.
#ifndef TF_OPTIM_CC_DRIVERS_SPARSE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_SPARSE_CPU_H_

#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sort_ids.h"

namespace tf_optim {

template <class Rule, class T>
struct SparseItem {
  Variable<Rule, T> variable;
  const T* grad;  // a row for each id that was sorted
  int64_t rows;   // of the table
};

// Sets the variables' means, if the rule has such.
template <class Rule, class T>
void ApplySparse(std::vector<SparseItem<Rule, T>>* items,
                 const std::vector<IdSorter>& sorters, SparseMode mode,
                 const ForVariables<CoefficientsOf<Rule, T>>& coefficients,
                 const CpuKernels<Rule, T>& kernels,
                 const ParallelFor& parallel_for,
                 const Averages<T>& averages = {},
                 UpdateNorms<T>* norms = nullptr) {
  constexpr int64_t kIdsPerChunk = 8;
  const bool lazy = mode == SparseMode::kLazy;
  // As ApplyDense: more where rows are asked for before a chunk.
  const bool measures = !items->empty() && IsMeasured(items->front().variable);
  const int64_t least =
      norms != nullptr && !measures ? 4 * kIdsPerChunk : kIdsPerChunk;
  constexpr double kRandomAccess = 2;  // dearer than a stream
  const double cost = kRandomAccess * MemoryCost(BytesPerElement<Rule, T>());
  const auto chunk_of = [=](const auto& item) -> int64_t {
    const int64_t width = item.variable.width;
    if (lazy || width == 0) return least;
    return std::max<int64_t>(kIdsPerChunk, kMeasuredChunk / width);
  };
  Chunks chunks;
  for (size_t i = 0; i < items->size(); ++i) {
    const auto& item = (*items)[i];
    const int64_t width = item.variable.width;
    const int64_t rows = lazy ? sorters[i].ids().count : item.rows;
    chunks.Add(width > 0 ? rows : 0, chunk_of(item),
               cost * static_cast<double>(width));
  }
  if (norms != nullptr) norms->Begin(chunks);
  const auto kernel = lazy ? kernels.lazy_rows : kernels.all_rows;
  const auto run = [&](const auto& item, size_t i, int64_t begin, int64_t end,
                       Measured<Rule>* measured) {
    const SortedIds ids = sorters[i].ids();
    T* const var = item.variable.var;
    const int64_t width = item.variable.width;
    const auto pass = [&](int64_t b, int64_t e) {
      kernel(item.variable, item.grad, ids, b, e, coefficients.at(i), measured);
    };
    if (measured != nullptr) return pass(begin, end);
    const Average<T>* const average = averages.at(i);
    const auto move_average = [&](int64_t b, int64_t e) {
      averages.kernels->span(*average, var, b * width, e * width,
                             *averages.averaging);
    };
    const bool moves_all = !lazy && average != nullptr;
    const auto update = [&](int64_t from, int64_t to) {
      if (!lazy || average == nullptr) return pass(from, to);
      InBlocks(
          from, to, 2 * kIdsPerChunk,
          [&](int64_t b, int64_t e) {
            averages.kernels->catch_up_rows(*average, var, width, ids, b, e,
                                            *averages.averaging);
            pass(b, e);
          },
          [&](int64_t b, int64_t e) {
            averages.kernels->rows(*average, var, width, ids, b, e,
                                   *averages.averaging);
          });
    };
    if (norms == nullptr) {
      if (!moves_all) return update(begin, end);
      InBlocks(
          begin, end,
          std::max<int64_t>(1, kAveragedBlock / std::max<int64_t>(1, width)),
          pass, move_average);
      return;
    }
    const int64_t chunk = chunk_of(item);
    typename UpdateNorms<T>::Room room;
    for (int64_t b = begin; b < end; b += chunk) {
      const int64_t e = std::min(end, b + chunk);
      norms->Measure(
          chunks.first(i) + b / chunk, &room,
          [&](const auto& visit) {
            if (!lazy) return visit(var + b * width, (e - b) * width);
            for (int64_t k = b; k < e; ++k) {  // rows whose ids begin there
              if (!ids.begins_run(k)) continue;
              visit(var + ids.id(k) * width, width);
            }
          },
          [&] { update(b, e); });
      if (moves_all) move_average(b, e);
    }
  };
  RunPasses<Rule, T>(chunks, items, parallel_for, run);
  if (norms != nullptr) norms->End(chunks, items->size());
  if (!lazy || averages.averaging == nullptr || !averages.averaging->Gives()) {
    return;
  }
  for (size_t i = 0; i < items->size(); ++i) {
    const auto& item = (*items)[i];
    const Average<T>* const average = averages.at(i);
    if (average == nullptr || item.variable.width == 0) continue;
    parallel_for(item.rows, cost * static_cast<double>(item.variable.width),
                 [&](int64_t begin, int64_t end) {
                   averages.kernels->give_rows(*average, item.variable.var,
                                               item.variable.width, begin, end,
                                               *averages.averaging);
                 });
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SPARSE_CPU_H_
