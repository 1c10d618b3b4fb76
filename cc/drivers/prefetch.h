// Rows that are needed soon, asked of memory before they are.
#ifndef TF_OPTIM_CC_DRIVERS_PREFETCH_H_
#define TF_OPTIM_CC_DRIVERS_PREFETCH_H_

#include <algorithm>
#include <cstdint>

#include "hwy/base.h"

namespace tf_optim {

inline constexpr int64_t kPrefetchRows = 8;      // ahead of the one at work
inline constexpr int64_t kPrefetchBytes = 1024;  // of a row, the rest follows
inline constexpr int64_t kCacheLine = 64;

// A row that will be read and written.
template <class T>
HWY_INLINE void PrefetchRow(const T* row, int64_t width) {
  const int64_t bytes = std::min<int64_t>(
      width * static_cast<int64_t>(sizeof(T)), kPrefetchBytes);
  const char* p = reinterpret_cast<const char*>(row);
  for (int64_t b = 0; b < bytes; b += kCacheLine) __builtin_prefetch(p + b, 1);
  __builtin_prefetch(p + bytes - 1, 1);  // an unaligned row ends one line later
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_PREFETCH_H_
