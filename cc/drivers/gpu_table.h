// A list of variables as one launch, and how threads share out work.
//
// A kernel's parameters are a table: the variables, and the number of each
// one's first block. They take no copy to the device and no memory there, but
// there is room for 4 KiB only, so a longer list takes several launches.
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
inline constexpr int kKernelParameterBytes = 4096;
inline constexpr int kOtherParameterBytes = 192;  // beside a table

template <class Entry>
inline constexpr int kTableCapacity =
    (kKernelParameterBytes - kOtherParameterBytes) /
    static_cast<int>(sizeof(Entry) + sizeof(int32_t));

template <class Entry, int capacity = kTableCapacity<Entry>>
struct GpuTable {
  static constexpr int kCapacity = capacity;

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

// How many threads share a row of `packs` packs: a power of two up to a warp,
// or the whole block where each of its threads has a pack.
inline int LanesFor(int64_t packs) {
  if (packs >= kGpuThreads) return kGpuThreads;
  int lanes = 1;
  while (lanes < packs && lanes < kWarp) lanes *= 2;
  return lanes;
}

// Blocks for `units` rows that `lanes` threads share each.
inline int64_t BlocksFor(int64_t units, int lanes) {
  return CeilDiv(units, kGpuThreads / lanes);
}

// The row of a thread, counted from the first one of its variable.
TFO_HD constexpr int64_t UnitOf(int64_t block, int thread, int lanes) {
  return block * (kGpuThreads / lanes) + thread / lanes;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_TABLE_H_
