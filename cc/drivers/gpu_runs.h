// Sorted ids on the GPU: which positions belong to one row, and how many rows
// of gradient are summed up when an id occurs often.
//
// A run is the positions of one id. Up to kMinPiece of them, and the first
// piece of a longer run, are added by the threads that update the row. A longer
// run is cut into pieces of one length, which other threads add up before, and
// the row's threads add the pieces' sums in their order. The cuts follow from
// the length of the run alone, so a row's result is the same bits run after
// run, whatever else is in the batch.
//
// A piece's sum needs a place, without anybody counting pieces: pieces that
// are not the first of their run begin at least kMinPiece positions apart, so
// each tile of kMinPiece positions holds the beginning of at most one of them.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_RUNS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_RUNS_H_

#include <cstdint>

#include "cc/drivers/cpu.h"
#include "cc/values/host_device.h"

namespace tf_optim {

inline constexpr int kMinPieceBits = 5;
inline constexpr int64_t kMinPiece = int64_t{1} << kMinPieceBits;

struct Run {
  int64_t begin = 0, end = 0;
};

// Adding a run takes two steps, of a piece's length and of the number of
// pieces: both grow as the root of the run's length. A piece's length is this
// power of two.
TFO_HD constexpr int PieceBits(int64_t run_length) {
  int bits = kMinPieceBits;
  while (int64_t{1} << 2 * bits < run_length) ++bits;
  return bits;
}

TFO_HD constexpr bool BeginsRun(const SortedIds& ids, int64_t i) {
  return i == 0 || ids.id(i) != ids.id(i - 1);
}

// The end of the run that position i is in. Most runs are short, so steps
// double until they leave the run, and halve back into it.
TFO_HD constexpr int64_t RunEndAfter(const SortedIds& ids, int64_t i) {
  const int64_t id = ids.id(i);
  int64_t inside = i, step = 1;
  while (inside + step < ids.count && ids.id(inside + step) == id) {
    inside += step;
    step *= 2;
  }
  int64_t outside = inside + step < ids.count ? inside + step : ids.count;
  while (outside - inside > 1) {
    const int64_t middle = inside + (outside - inside) / 2;
    if (ids.id(middle) == id) {
      inside = middle;
    } else {
      outside = middle;
    }
  }
  return outside;
}

TFO_HD constexpr int64_t RunBeginBefore(const SortedIds& ids, int64_t i) {
  const int64_t id = ids.id(i);
  int64_t inside = i, step = 1;
  while (inside - step >= 0 && ids.id(inside - step) == id) {
    inside -= step;
    step *= 2;
  }
  int64_t outside = inside - step >= 0 ? inside - step : -1;
  while (inside - outside > 1) {
    const int64_t middle = outside + (inside - outside) / 2;
    if (ids.id(middle) == id) {
      inside = middle;
    } else {
      outside = middle;
    }
  }
  return inside;
}

// The first position whose id is not below `id`.
TFO_HD constexpr int64_t LowerBound(const SortedIds& ids, int64_t id) {
  int64_t low = 0, high = ids.count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (ids.id(middle) < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The piece that begins in the tile and is not the first of its run; empty if
// there is none.
TFO_HD constexpr Run PieceOfTile(const SortedIds& ids, int64_t tile) {
  const int64_t first = tile * kMinPiece;
  if (first >= ids.count || BeginsRun(ids, first)) return {};
  const int64_t begin = RunBeginBefore(ids, first);
  const int64_t end = RunEndAfter(ids, first);
  const int bits = PieceBits(end - begin);
  const int64_t length = int64_t{1} << bits;
  const int64_t pieces = (first - begin + length - 1) >> bits;
  const int64_t start = begin + (pieces << bits);
  if (start >= first + kMinPiece || start >= end) return {};
  return {start, start + length < end ? start + length : end};
}

// A sparse gradient's ids and rows, the same for every rule.
struct IdEntry {
  const void* indices = nullptr;
  uint64_t* keys = nullptr;  // sorted, once they are
  const void* grad = nullptr;
  void* pieces = nullptr;  // [tiles, width] sums in the computation type
  int64_t count = 0;
  int64_t first_row = 0;  // of the table, among the rows of all tables
  int64_t rows = 0;
  int64_t width = 1;
  int32_t item = 0;       // among the items of the step
  int16_t lane_bits = 0;  // 2^lane_bits threads share a row
  int16_t position_bits = 0;
  bool wide_indices = false;
  bool packed = false;  // 16-byte accesses fit

  TFO_HD SortedIds ids() const { return {keys, count, position_bits}; }
  TFO_HD int lanes() const { return 1 << lane_bits; }
  TFO_HD int64_t Index(int64_t i) const {
    return wide_indices ? static_cast<const int64_t*>(indices)[i]
                        : static_cast<const int32_t*>(indices)[i];
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_RUNS_H_
