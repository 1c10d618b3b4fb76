// Sorted ids on the GPU: which positions belong to one row, and how many rows
// of gradient are summed up when an id occurs often.
//
// A run is the positions of one id. The first kMinPiece of them are added by
// the threads that update the row. The rest of a longer run is cut into pieces
// of one length, which other threads add up before, and the row's threads add
// the pieces' sums in their order. The cuts follow from the length of the run
// alone, so a row's result is the same bits run after run, whatever else is in
// the batch.
//
// A piece's sum needs a place, without anybody counting pieces: pieces begin at
// least kMinPiece positions apart, and as far behind the beginning of their
// run, so each tile of kMinPiece positions holds the beginning of at most one.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_RUNS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_RUNS_H_

#include <cstdint>

#include "cc/drivers/gpu_table.h"
#include "cc/values/host_device.h"

namespace tf_optim {

inline constexpr int kMinPieceBits = 5;
inline constexpr uint32_t kMinPiece = uint32_t{1} << kMinPieceBits;

// Rows that threads take in turn, where there are so many that a GPU is full
// of threads even so: what a thread does once, it does for 2^kTurnBits rows.
inline constexpr int8_t kTurnBits = 3;
inline constexpr int64_t kThreadsForTurns = int64_t{1} << 21;

// Positions among a table's ids: at most kMaxGpuIndices, and twice that fits.
struct Run {
  uint32_t begin = 0, end = 0;
};

// Sorted keys (MakeKeysBody of gpu_ids.h).
struct GpuIds {
  const uint64_t* keys;
  uint32_t count;
  int position_bits;

  TFO_HD constexpr uint64_t Id(uint32_t i) const {
    return keys[i] >> position_bits;
  }
  // Of its row in the gradient.
  TFO_HD constexpr int64_t Position(uint32_t i) const {
    return static_cast<uint32_t>(keys[i]) &
           static_cast<uint32_t>((uint64_t{1} << position_bits) - 1);
  }
};

// The pieces of a run. Adding it takes two steps, of a piece's length and of
// the number of pieces: both grow as the root of the run's length.
struct Pieces {
  uint32_t begin;  // of the first
  int bits;        // a piece's length is this power of two

  TFO_HD constexpr explicit Pieces(const Run& run)
      : begin(run.begin + kMinPiece), bits(kMinPieceBits) {
    // The rows of a piece are in memory, the sums of pieces in the cache.
    while (run.end > begin && uint32_t{2} << 2 * bits < run.end - begin) ++bits;
  }
  TFO_HD constexpr uint32_t length() const { return uint32_t{1} << bits; }
};

TFO_HD constexpr bool BeginsRun(const GpuIds& ids, uint32_t i) {
  return i == 0 || ids.Id(i) != ids.Id(i - 1);
}

// The end of the run that position i is in. Most runs are short, so steps
// double until they leave the run, and halve back into it.
TFO_HD constexpr uint32_t RunEndAfter(const GpuIds& ids, uint32_t i) {
  const uint64_t id = ids.Id(i);
  uint32_t inside = i, step = 1;
  while (inside + step < ids.count && ids.Id(inside + step) == id) {
    inside += step;
    step *= 2;
  }
  uint32_t outside = inside + step < ids.count ? inside + step : ids.count;
  while (outside - inside > 1) {
    const uint32_t middle = inside + (outside - inside) / 2;
    if (ids.Id(middle) == id) {
      inside = middle;
    } else {
      outside = middle;
    }
  }
  return outside;
}

// The same backwards: the first position of the run.
TFO_HD constexpr uint32_t RunBeginBefore(const GpuIds& ids, uint32_t i) {
  const uint64_t id = ids.Id(i);
  uint32_t begin = i, step = 1;
  while (step <= begin && ids.Id(begin - step) == id) {
    begin -= step;
    step *= 2;
  }
  // begin - step, if there is such a position, is outside.
  while (step /= 2) {
    if (step <= begin && ids.Id(begin - step) == id) begin -= step;
  }
  return begin;
}

// The first position whose id is not below `id`.
TFO_HD constexpr uint32_t LowerBound(const GpuIds& ids, uint64_t id) {
  uint32_t low = 0, high = ids.count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (ids.Id(middle) < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The piece that begins in the tile; empty if there is none.
TFO_HD constexpr Run PieceOfTile(const GpuIds& ids, int64_t tile) {
  if (tile * kMinPiece >= ids.count) return {};
  const uint32_t first = static_cast<uint32_t>(tile) * kMinPiece;
  if (BeginsRun(ids, first)) return {};
  const Run run = {RunBeginBefore(ids, first), RunEndAfter(ids, first)};
  const Pieces pieces(run);
  uint32_t start = pieces.begin;
  if (start < first) {
    start += (first - start + pieces.length() - 1) >> pieces.bits
                                                          << pieces.bits;
  }
  if (start >= first + kMinPiece || start >= run.end) return {};
  const uint32_t end = start + pieces.length();
  return {start, end < run.end ? end : run.end};
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
  bool packed = false;   // 16-byte accesses fit
  int8_t turn_bits = 0;  // they do 2^turn_bits rows in turn

  TFO_HD GpuIds ids() const {
    return {keys, static_cast<uint32_t>(count), position_bits};
  }
  TFO_HD int lanes() const { return 1 << lane_bits; }
  TFO_HD int turns() const { return 1 << turn_bits; }

  void SetTurns(int64_t units) {
    turn_bits = units << lane_bits >= kThreadsForTurns ? kTurnBits : 0;
  }
  int64_t BlocksFor(int64_t units) const {
    return CeilDiv(units, (kGpuThreads >> lane_bits) << turn_bits);
  }
  TFO_HD int64_t Index(int64_t i) const {
    return wide_indices ? static_cast<const int64_t*>(indices)[i]
                        : static_cast<const int32_t*>(indices)[i];
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_RUNS_H_
