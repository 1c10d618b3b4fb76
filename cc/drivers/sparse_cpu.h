// One step of a list of tables with sparse gradients, on the CPU: sort the ids
// of every table, then update rows in parallel. Sorting checks every id before
// anything is written.
#ifndef TF_OPTIM_CC_DRIVERS_SPARSE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_SPARSE_CPU_H_

#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sort_ids.h"

namespace tf_optim {

enum class SparseMode {
  kLazy,   // rows in `indices` only
  kDense,  // every row, as if the gradient were dense
};

template <class Rule, class T, class Index>
struct SparseItem {
  Variable<Rule, T> variable;
  const T* grad;  // [count, width]
  const Index* indices;
  int64_t count;
  int64_t rows;
};

// An id outside its table.
struct BadIndex {
  int64_t item = -1;  // -1: none
  int64_t position = -1;
};

template <Outside outside = Outside::kRefuse, class Item>
BadIndex SortItems(const std::vector<Item>& items,
                   const ParallelFor& parallel_for,
                   std::vector<IdSorter>* sorters) {
  sorters->resize(items.size());
  std::vector<int64_t> bad(items.size(), -1);
  double ids = 0;
  for (const Item& item : items) ids += static_cast<double>(item.count);
  const double cost = kSortCost * ids / static_cast<double>(items.size());
  parallel_for(static_cast<int64_t>(items.size()), cost,
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   bad[i] = (*sorters)[i].template Sort<outside>(
                       items[i].indices, items[i].count, items[i].rows,
                       parallel_for);
                 }
               });
  for (size_t i = 0; i < bad.size(); ++i) {
    if (bad[i] >= 0) return {static_cast<int64_t>(i), bad[i]};
  }
  return {};
}

// Sets the variables' means, if the rule has such.
template <class Rule, class T, class Index>
void ApplySparse(std::vector<SparseItem<Rule, T, Index>>* items,
                 const std::vector<IdSorter>& sorters, SparseMode mode,
                 const ForVariables<CoefficientsOf<Rule, T>>& coefficients,
                 const CpuKernels<Rule, T>& kernels,
                 const ParallelFor& parallel_for,
                 const Averages<T>& averages = {},
                 UpdateNorms<T>* norms = nullptr) {
  constexpr int64_t kIdsPerChunk = 8;
  const bool lazy = mode == SparseMode::kLazy;
  // As ApplyDense: more where rows are asked for before a chunk.
  const int64_t least = Rule::kMeansOver != Over::kVariable && norms != nullptr
                            ? 4 * kIdsPerChunk
                            : kIdsPerChunk;
  constexpr double kRandomAccess = 2;  // dearer than a stream
  const double cost = kRandomAccess * MemoryCost(BytesPerElement<Rule, T>());
  const auto chunk_of = [=](const auto& item) -> int64_t {
    const int64_t width = item.variable.width;
    if (lazy || width == 0) return least;
    return std::max<int64_t>(kIdsPerChunk, kMeasuredChunk / width);
  };
  Chunks chunks;
  for (const auto& item : *items) {
    const int64_t width = item.variable.width;
    const int64_t rows = lazy ? item.count : item.rows;
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
    const auto update = [&](int64_t from, int64_t to) {
      const Average<T>* const average = averages.at(i);
      if (average == nullptr) return pass(from, to);
      if (!lazy) {
        InBlocks(
            from, to,
            std::max<int64_t>(1, kAveragedBlock / std::max<int64_t>(1, width)),
            pass, [&](int64_t b, int64_t e) {
              averages.kernels->span(*average, var, b * width, e * width,
                                     *averages.averaging);
            });
        return;
      }
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
    if (norms == nullptr) return update(begin, end);
    const int64_t chunk = chunk_of(item);
    typename UpdateNorms<T>::Room room;
    for (int64_t b = begin; b < end; b += chunk) {
      const int64_t e = std::min(end, b + chunk);
      norms->Measure(
          chunks.first(i) + b / chunk, &room,
          [&](const auto& visit) {
            if (!lazy) return visit(var + b * width, (e - b) * width);
            for (int64_t k = b; k < e; ++k) {  // rows whose ids begin there
              if (k > 0 && ids.id(k) == ids.id(k - 1)) continue;
              visit(var + ids.id(k) * width, width);
            }
          },
          [&] { update(b, e); });
    }
  };
  RunPasses<Rule, T>(chunks, items, parallel_for, run);
  if (norms != nullptr) norms->End(chunks, items->size());
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SPARSE_CPU_H_
