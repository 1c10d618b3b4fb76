// Rows that gradients of several steps add up in: at the cost of the rows that
// are named, never of the table. No instruction set of its own: a loop over
// rows waits for memory.
#ifndef TF_OPTIM_CC_DRIVERS_ACCUMULATE_H_
#define TF_OPTIM_CC_DRIVERS_ACCUMULATE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/denormals.h"
#include "cc/drivers/sort_ids.h"

namespace tf_optim {

// An accumulator, and a sparse gradient that belongs to it.
template <class T>
struct AccumulatorItem {
  T* table;  // [rows, width]
  int64_t rows, width;
  const T* grad;  // [count, width]
  const int64_t* indices;
  int64_t count;
};

// A row, and where its gradients are among sorted ids: [begin, end).
struct RowRun {
  int64_t row, begin, end;
};

// The rows of sorted ids, each once.
inline std::vector<RowRun> RunsOf(const SortedIds& ids) {
  std::vector<RowRun> runs;
  for (int64_t i = 0; i < ids.count;) {
    int64_t end = i + 1;
    while (end < ids.count && ids.id(end) == ids.id(i)) ++end;
    runs.push_back({ids.id(i), i, end});
    i = end;
  }
  return runs;
}

// Whether a row of an accumulator has been named by a gradient: one whose sum
// is 0 is -0 (AddToTable).
template <class T>
bool IsNamed(const T* row, int64_t width) {
  return !std::all_of(row, row + width,
                      [](T x) { return x == 0 && !std::signbit(x); });
}

// Sets found[r], which has a place for each row, for rows that are named.
template <class T>
void FindNamedRows(const AccumulatorItem<T>& item,
                   const ParallelFor& parallel_for, bool* found) {
  parallel_for(item.rows, static_cast<double>(item.width * sizeof(T)) / 10,
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   found[r] = IsNamed(item.table + r * item.width, item.width);
                 }
               });
}

// The rows r of found[r], without gradients.
inline std::vector<RowRun> RunsOf(const bool* found, int64_t rows) {
  std::vector<RowRun> runs;
  for (int64_t r = 0; r < rows; ++r) {
    if (found[r]) runs.push_back({r, 0, 0});
  }
  return runs;
}

// Rows of either list, each once; both are in order. Those of the second alone
// have no gradients.
inline std::vector<RowRun> UnionOf(const std::vector<RowRun>& named,
                                   const std::vector<RowRun>& others) {
  std::vector<RowRun> rows;
  rows.reserve(named.size() + others.size());
  auto a = named.begin();
  for (const RowRun& other : others) {
    for (; a != named.end() && a->row < other.row; ++a) rows.push_back(*a);
    if (a != named.end() && a->row == other.row) continue;
    rows.push_back({other.row, 0, 0});
  }
  rows.insert(rows.end(), a, named.end());
  return rows;
}

inline constexpr int64_t kRowsPerChunk = 8;

// Calls visit(item, its number, run) for all runs, shared out among threads.
template <class Item, class Visit>
void ForEachRun(const std::vector<Item>& items,
                const std::vector<std::vector<RowRun>>& runs,
                const ParallelFor& parallel_for, const Visit& visit) {
  constexpr int64_t kAhead = 8;       // rows whose lines are asked for
  constexpr double kNanoseconds = 1;  // an element
  Chunks chunks;
  double cost = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    chunks.Add(static_cast<int64_t>(runs[i].size()), kRowsPerChunk,
               kNanoseconds * static_cast<double>(items[i].width));
    cost += chunks.cost(i);
  }
  if (chunks.count() == 0) return;
  parallel_for(
      chunks.count(), cost / static_cast<double>(chunks.count()),
      [&](int64_t first, int64_t last) {
        const ScopedFlushDenormals flush;
        chunks.ForEach(first, last, [&](size_t i, int64_t begin, int64_t end) {
          const auto& item = items[i];
          const int64_t size = static_cast<int64_t>(runs[i].size());
          int64_t asked = begin;
          for (int64_t r = begin; r < end; ++r) {
            for (; asked < std::min(size, r + kAhead); ++asked) {
              const auto* row = item.table + runs[i][asked].row * item.width;
              const char* p = reinterpret_cast<const char*>(row);
              const char* stop = reinterpret_cast<const char*>(
                  row + std::min<int64_t>(item.width, 256));
              for (; p < stop; p += 64) __builtin_prefetch(p, 1);
            }
            visit(item, i, r);
          }
        });
      });
}

// to = from + the gradients of a row, in the order of `indices`.
template <class T>
void AddGradients(const AccumulatorItem<T>& item, const SortedIds& ids,
                  const RowRun& run, const T* from, T* to) {
  const int64_t width = item.width;
  for (int64_t k = run.begin; k < run.end; ++k) {
    const T* const grad = item.grad + ids.position(k) * width;
    for (int64_t j = 0; j < width; ++j) to[j] = from[j] + grad[j];
    from = to;
  }
}

// Adds the gradients of a row to its place in the table. Who reads a checkpoint
// in the middle of a window has to know the rows that it names, and all that
// the checkpoint has of a row with gradients of 0 is its sign.
template <class T>
void AddToTable(const AccumulatorItem<T>& item, const SortedIds& ids,
                const RowRun& run) {
  T* const row = item.table + run.row * item.width;
  AddGradients(item, ids, run, row, row);
  if (!IsNamed(row, item.width)) std::fill_n(row, item.width, -T{0});
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_ACCUMULATE_H_
