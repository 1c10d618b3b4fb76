// The passes of one step over a list of variables: the update and, before it,
// the measuring for rules with means over the variable and cautious steps.
#ifndef TF_OPTIM_CC_DRIVERS_PASSES_CPU_H_
#define TF_OPTIM_CC_DRIVERS_PASSES_CPU_H_

#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/cpu.h"
#include "cc/drivers/denormals.h"

namespace tf_optim {

// Chunks of at least this many elements, so that what is measured of them is
// little beside them.
inline constexpr int64_t kMeasuredChunk = 4096;

// Nanoseconds that `bytes` of in-place traffic take one core.
inline double MemoryCost(double bytes) { return bytes / 20; }

// Calls run(item, its number, begin, end, measured) for the items' chunks in
// parallel. What is measured is summed up per chunk and then in the order of
// the chunks, so that threads do not change it. Items that fit into a cache
// together are updated before the next ones are measured.
template <class Rule, class T, class Item, class Run>
void RunPasses(const Chunks& chunks, std::vector<Item>* items,
               const ParallelFor& parallel_for, const Run& run) {
  const bool measures = !items->empty() && IsMeasured(items->front().variable);
  const double cached = MemoryCost(16 << 20);
  for (size_t first = 0, last; first < items->size(); first = last) {
    double cost = chunks.cost(first);
    for (last = first + 1; last < items->size(); ++last) {
      if (measures && cost + chunks.cost(last) > cached) break;
      cost += chunks.cost(last);
    }
    const int64_t begin = chunks.first(first);
    const int64_t count = chunks.first(last) - begin;
    if (count == 0) continue;
    cost /= static_cast<double>(count);
    if (measures) {
      std::vector<Measured<Rule>> parts(count);
      parallel_for(count, cost, [&](int64_t a, int64_t b) {
        const ScopedFlushDenormals flush;
        for (int64_t c = a; c < b; ++c) {
          chunks.ForEach(begin + c, begin + c + 1,
                         [&](size_t i, int64_t from, int64_t to) {
                           run((*items)[i], i, from, to, &parts[c]);
                         });
        }
      });
      for (size_t i = first; i < last; ++i) {
        Measured<Rule> total;
        for (int64_t c = chunks.first(i); c < chunks.first(i + 1); ++c) {
          total += parts[c - begin];
        }
        total.SetMeans(&(*items)[i].variable);
      }
    }
    parallel_for(count, cost, [&](int64_t a, int64_t b) {
      const ScopedFlushDenormals flush;
      // Backwards after a first pass: what it touched last is still in a cache.
      const int64_t chunk = begin + (measures ? count - b : a);
      chunks.ForEach(chunk, chunk + b - a,
                     [&](size_t i, int64_t from, int64_t to) {
                       run((*items)[i], i, from, to, nullptr);
                     });
    });
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_PASSES_CPU_H_
