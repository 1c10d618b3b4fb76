// The passes of one step over a list of variables: the update and, before it,
// the measuring for rules with means over the variable.
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

// Calls run(item, its number, begin, end, measured) for the items' chunks in
// parallel. What is measured is summed up per chunk and then in the order of
// the chunks, so that threads do not change it.
template <class Rule, class T, class Item, class Run>
void RunPasses(const Chunks& chunks, double cost, std::vector<Item>* items,
               const ParallelFor& parallel_for, const Run& run) {
  if constexpr (Rule::kMeansOver == Over::kVariable) {
    std::vector<Measured<Rule>> parts(chunks.count());
    parallel_for(chunks.count(), cost, [&](int64_t first, int64_t last) {
      const ScopedFlushDenormals flush;
      for (int64_t c = first; c < last; ++c) {
        chunks.ForEach(c, c + 1, [&](size_t i, int64_t begin, int64_t end) {
          run((*items)[i], i, begin, end, &parts[c]);
        });
      }
    });
    for (size_t i = 0; i < items->size(); ++i) {
      Measured<Rule> total;
      for (int64_t c = chunks.first(i); c < chunks.first(i + 1); ++c) {
        total += parts[c];
      }
      (*items)[i].variable.means = total.template Means<T>();
    }
  }
  parallel_for(chunks.count(), cost, [&](int64_t first, int64_t last) {
    const ScopedFlushDenormals flush;
    chunks.ForEach(first, last, [&](size_t i, int64_t begin, int64_t end) {
      run((*items)[i], i, begin, end, nullptr);
    });
  });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_PASSES_CPU_H_
