// A list of variables as one launch, and how threads share out work.
//
// A kernel's parameters are a table: the variables, and the number of each
// one's first block. They take no copy to the device and no memory there, but
// there is room for 32,764 bytes (before CUDA 12.1 for 4 KiB), so a longer list
// takes several launches. Every launch hands over all of its table, filled or
// not: what can be a short list or a long one has a kernel for each.
//
// How many blocks a variable has depends on its size and nothing else: what is
// summed up per block is the same bits on every device.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_TABLE_H_
#define TF_OPTIM_CC_DRIVERS_GPU_TABLE_H_

#include <cstdint>

#include "cc/values/host_device.h"

namespace tf_optim {

inline constexpr int kGpuThreads = 256;  // of a block
inline constexpr int kWarp = 32;
inline constexpr int64_t kMaxGpuBlocks = 0x7fffffff;
inline constexpr int kShortParameterBytes = 4096;  // of a kernel
inline constexpr int kLongParameterBytes = 32764;
inline constexpr int kOtherParameterBytes = 192;  // beside a table

template <class Entry, int bytes = kShortParameterBytes>
struct GpuTable {
  static constexpr int kCapacity =
      (bytes - kOtherParameterBytes) /
      static_cast<int>(sizeof(Entry) + sizeof(int32_t));

  int32_t count = 0;
  int32_t first_block[kCapacity];
  Entry entries[kCapacity];

  // Shares out blocks_of(entry) blocks to each; returns how many these are.
  template <class BlocksOf>
  int64_t SetBlocks(const BlocksOf& blocks_of) {
    int64_t blocks = 0;
    for (int i = 0; i < count; ++i) {
      first_block[i] =
          static_cast<int32_t>(blocks < kMaxGpuBlocks ? blocks : kMaxGpuBlocks);
      blocks += blocks_of(entries[i]);
    }
    return blocks;
  }

  // The entry that a block belongs to: the last one that begins at or before
  // it. Entries without blocks begin where the next one does.
  TFO_HD int Find(int64_t block) const {
    int low = 0, high = count;  // first_block[low] <= block
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first_block[middle] <= block) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

TFO_HD constexpr int64_t CeilDiv(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// How many threads share a row of `packs` packs, as a power of two: one for
// each pack, up to a block. So up to 1,024 columns of float32 a thread has one
// pack, and what it keeps of it in registers is all that it needs again.
inline int16_t LaneBitsFor(int64_t packs) {
  int16_t bits = 0;
  while ((1 << bits) < packs && (1 << bits) < kGpuThreads) ++bits;
  return bits;
}

// The row of a thread, counted from the first one of its variable, and the
// thread's number in it.
TFO_HD constexpr int64_t UnitOf(int64_t block, int thread, int lane_bits) {
  return block * (kGpuThreads >> lane_bits) + (thread >> lane_bits);
}
TFO_HD constexpr int LaneOf(int thread, int lane_bits) {
  return thread & ((1 << lane_bits) - 1);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_TABLE_H_
