// What a step has to know of its gradients before it begins: the sum of
// squares, the elements that are not finite and the rows of each, repeated ids
// summed first. One pass that writes nothing.
#ifndef TF_OPTIM_CC_DRIVERS_NORMS_H_
#define TF_OPTIM_CC_DRIVERS_NORMS_H_

#include <algorithm>
#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/cpu.h"
#include "cc/drivers/denormals.h"

namespace tf_optim {

// Sums in double hold the square of any float; what is of a chunk has the same
// bits on every instruction set, and chunks are added up in their order.
struct GradientNorm {
  double squares = 0;
  int64_t non_finite = 0;
  int64_t rows = 0;  // different ids

  GradientNorm& operator+=(const GradientNorm& other) {
    squares += other.squares;
    non_finite += other.non_finite;
    rows += other.rows;
    return *this;
  }
};

// The loops, compiled once per instruction set.
template <class T>
struct NormKernels {
  GradientNorm (*span)(const T* grad, int64_t size);
  // The rows whose ids begin at sorted positions [begin, end).
  GradientNorm (*rows)(const T* grad, int64_t width, const SortedIds& ids,
                       int64_t begin, int64_t end);
};

// The gradient of one variable; of a dense one, `ids` has no keys.
template <class T>
struct NormItem {
  const T* grad = nullptr;
  int64_t size = 0;  // elements, of a dense one
  int64_t width = 1;
  SortedIds ids = {};
  bool is_sparse = false;
};

inline constexpr int64_t kNormChunk = 4096;  // elements of rows
// The same of a dense gradient, which is read in several streams: a processor
// asks for too little of one, and the streams have to be long.
inline constexpr int64_t kDenseNormChunk = 65536;
inline constexpr int64_t kNormStreams = 4;

template <class T>
std::vector<GradientNorm> MeasureGradients(
    const std::vector<NormItem<T>>& items, const NormKernels<T>& kernels,
    const ParallelFor& parallel_for) {
  constexpr double kCost = sizeof(T) / 10.0;  // nanoseconds to read an element
  const auto chunk_of = [](const NormItem<T>& item) {
    if (!item.is_sparse) return kDenseNormChunk;
    return std::max<int64_t>(8, kNormChunk / std::max<int64_t>(1, item.width));
  };
  Chunks chunks;
  double cost = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const NormItem<T>& item = items[i];
    const double width = static_cast<double>(item.is_sparse ? item.width : 1);
    chunks.Add(item.is_sparse ? item.ids.count : item.size, chunk_of(item),
               kCost * width);
    cost += chunks.cost(i);
  }
  std::vector<GradientNorm> parts(chunks.count());
  const auto measure = [&](int64_t begin, int64_t end) {
    const ScopedFlushDenormals flush;
    // Backwards: the update begins with what was read last, still in a cache.
    const int64_t first = chunks.count() - end;
    for (int64_t c = first; c < first + end - begin; ++c) {
      chunks.ForEach(c, c + 1, [&](size_t i, int64_t from, int64_t to) {
        const NormItem<T>& item = items[i];
        parts[c] = item.is_sparse
                       ? kernels.rows(item.grad, item.width, item.ids, from, to)
                       : kernels.span(item.grad + from, to - from);
      });
    }
  };
  if (chunks.count() > 0) {
    parallel_for(chunks.count(), cost / static_cast<double>(chunks.count()),
                 measure);
  }
  std::vector<GradientNorm> norms(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    for (int64_t c = chunks.first(i); c < chunks.first(i + 1); ++c) {
      norms[i] += parts[c];
    }
  }
  return norms;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_NORMS_H_
