// Sorts the ids of a sparse gradient, so that repeated ids lie side by side.
//
// Each id becomes the key id << position_bits | position. Keys are distinct, so
// the sorted order is one and the same however it is found. A least significant
// digit radix sort moves only the bits of the id: the keys start out ordered by
// position and the sort is stable.
#ifndef TF_OPTIM_CC_DRIVERS_SORT_IDS_H_
#define TF_OPTIM_CC_DRIVERS_SORT_IDS_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "cc/drivers/cpu.h"

namespace tf_optim {

// The number of bits that can write every value in [0, count).
inline int BitsFor(int64_t count) {
  int bits = 0;
  while (bits < 63 && (int64_t{1} << bits) < count) ++bits;
  return bits;
}

inline constexpr int kKeyBits = 64;

inline bool KeyFits(int64_t rows, int64_t count) {
  return BitsFor(rows) + BitsFor(count) <= kKeyBits;
}

// The first position whose id is not in [0, rows), or -1.
template <class Index>
int64_t FirstBadIndex(const Index* indices, int64_t count, int64_t rows) {
  const Index* end = indices + count;
  const Index* bad = std::find_if(
      indices, end, [rows](Index id) { return id < 0 || id >= rows; });
  return bad == end ? -1 : bad - indices;
}

// What becomes of an id that no row has.
enum class Outside { kRefuse, kLeaveOut };

// The keys of one table's gradient, and the room to sort them.
class IdSorter {
 public:
  IdSorter() = default;

  // Returns -1, or the first position whose id is not in [0, rows).
  template <Outside outside = Outside::kRefuse, class Index>
  int64_t Sort(const Index* indices, int64_t count, int64_t rows) {
    position_bits_ = BitsFor(count);
    count_ = 0;
    keys_.reset(new uint64_t[count]);
    uint64_t all_or = 0, all_and = ~uint64_t{0};
    bool sorted = true, in_range = true;
    uint64_t previous = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = indices[i];
      const bool inside = id >= 0 && id < rows;
      if (outside == Outside::kLeaveOut && !inside) continue;
      in_range &= inside;
      const uint64_t bits = static_cast<uint64_t>(id);
      sorted &= bits >= previous;
      previous = bits;
      all_or |= bits;
      all_and &= bits;
      keys_[count_++] = bits << position_bits_ | static_cast<uint64_t>(i);
    }
    if (!in_range) return FirstBadIndex(indices, count, rows);
    // Bits that are the same in every id need no sorting.
    if (!sorted) SortBits(BitsFor(static_cast<int64_t>(all_or ^ all_and) + 1));
    return -1;
  }

  SortedIds ids() const { return {keys_.get(), count_, position_bits_}; }

 private:
  static constexpr int kDigitBits = 11;

  // Orders the keys by the lowest `bits` bits of their ids.
  void SortBits(int bits) {
    if (count_ <= 128) {
      std::sort(keys_.get(), keys_.get() + count_);
      return;
    }
    const int passes = (bits + kDigitBits - 1) / kDigitBits;
    const int digit_bits = (bits + passes - 1) / passes;
    std::unique_ptr<uint64_t[]> other(new uint64_t[count_]);
    std::unique_ptr<int64_t[]> starts(new int64_t[int64_t{1} << digit_bits]);
    for (int pass = 0; pass < passes; ++pass) {
      Scatter(position_bits_ + pass * digit_bits, digit_bits, starts.get(),
              other.get());
      std::swap(keys_, other);
    }
  }

  void Scatter(int shift, int digit_bits, int64_t* starts, uint64_t* out) {
    const int64_t digits = int64_t{1} << digit_bits;
    const uint64_t mask = static_cast<uint64_t>(digits - 1);
    std::fill(starts, starts + digits, 0);
    for (int64_t i = 0; i < count_; ++i) ++starts[keys_[i] >> shift & mask];
    int64_t start = 0;
    for (int64_t d = 0; d < digits; ++d) {
      start += std::exchange(starts[d], start);
    }
    for (int64_t i = 0; i < count_; ++i) {
      out[starts[keys_[i] >> shift & mask]++] = keys_[i];
    }
  }

  std::unique_ptr<uint64_t[]> keys_;
  int64_t count_ = 0;
  int position_bits_ = 0;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SORT_IDS_H_
