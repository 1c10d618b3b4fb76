// Sorts the ids of a sparse gradient, so that repeated ids lie side by side.
//
// Each id becomes the key id << position_bits | position. Keys are distinct, so
// the sorted order is one and the same however it is found. A least significant
// digit radix sort moves only the bits of the id: the keys start out ordered by
// position and the sort is stable. Many ids are sorted in blocks, which threads
// share out: each block counts its digits, and then knows where to put its
// keys.
#ifndef TF_OPTIM_CC_DRIVERS_SORT_IDS_H_
#define TF_OPTIM_CC_DRIVERS_SORT_IDS_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cc/drivers/chunks.h"
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

// Nanoseconds to sort an id; one pass over it takes a part of that.
inline constexpr double kSortCost = 5;

// The keys of one table's gradient, and the room to sort them.
class IdSorter {
 public:
  IdSorter() = default;

  // Returns -1, or the first position whose id is not in [0, rows).
  template <Outside outside = Outside::kRefuse, class Index>
  int64_t Sort(const Index* indices, int64_t count, int64_t rows,
               const ParallelFor& parallel_for) {
    position_bits_ = BitsFor(count);
    count_ = 0;
    keys_.reset(new uint64_t[count]);
    const Blocks blocks(count, parallel_for);
    std::vector<Seen> parts(blocks.number());
    blocks.ForEach([&](int64_t b, int64_t begin, int64_t end) {
      parts[b] = MakeKeys<outside>(indices, begin, end, rows);
    });
    Seen seen;
    for (int64_t b = 0; b < blocks.number(); ++b) {
      uint64_t* const made = keys_.get() + blocks.begin(b);
      if (count_ != blocks.begin(b)) {  // some were left out before
        std::copy(made, made + parts[b].kept, keys_.get() + count_);
      }
      count_ += parts[b].kept;
      seen += parts[b];
    }
    if (!seen.in_range) return FirstBadIndex(indices, count, rows);
    // Bits that are the same in every id need no sorting.
    if (!seen.sorted) {
      SortBits(BitsFor(static_cast<int64_t>(seen.all_or ^ seen.all_and) + 1),
               parallel_for);
    }
    return -1;
  }

  // Takes keys that have been sorted elsewhere, without a copy. Returns whether
  // they are those of these ids.
  template <class Index>
  bool Take(const uint64_t* keys, const Index* indices, int64_t count,
            int64_t rows) {
    position_bits_ = BitsFor(count);
    count_ = count;
    taken_ = keys;
    const uint64_t positions = (uint64_t{1} << position_bits_) - 1;
    uint64_t next = 0;  // the least that the key can be
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t key = keys[i], position = key & positions;
      if (key < next || position >= static_cast<uint64_t>(count)) return false;
      const auto id = static_cast<uint64_t>(int64_t{indices[position]});
      if (key >> position_bits_ != id) return false;
      next = key + 1;
    }
    return count == 0 ||
           keys[count - 1] >> position_bits_ < static_cast<uint64_t>(rows);
  }

  SortedIds ids() const {
    const uint64_t* const keys = taken_ != nullptr ? taken_ : keys_.get();
    return {keys, count_, position_bits_};
  }

 private:
  static constexpr int kDigitBits = 11;
  static constexpr int64_t kBlock = 32768;  // ids; fewer are not worth a thread
  static constexpr int64_t kMostBlocks = 64;

  // [0, count), cut into pieces.
  class Blocks {
   public:
    Blocks(int64_t count, const ParallelFor& parallel_for)
        : count_(count),
          size_(std::max(kBlock, (count + kMostBlocks - 1) / kMostBlocks)),
          parallel_for_(parallel_for) {}

    int64_t number() const { return (count_ + size_ - 1) / size_; }
    int64_t begin(int64_t block) const { return block * size_; }

    // Calls f(block, begin, end) for each.
    template <class F>
    void ForEach(const F& f) const {
      const auto some = [&](int64_t first, int64_t last) {
        for (int64_t b = first; b < last; ++b) {
          f(b, begin(b), std::min(count_, begin(b + 1)));
        }
      };
      if (number() < 2) {
        some(0, number());
      } else {
        parallel_for_(number(), kSortCost / 2 * static_cast<double>(size_),
                      some);
      }
    }

   private:
    const int64_t count_, size_;
    const ParallelFor& parallel_for_;
  };

  // What is known of some ids, in their order.
  struct Seen {
    int64_t kept = 0;
    uint64_t all_or = 0, all_and = ~uint64_t{0};
    uint64_t first = 0, last = 0;
    bool sorted = true, in_range = true;

    Seen& operator+=(const Seen& next) {
      in_range &= next.in_range;
      if (next.kept == 0) return *this;
      sorted &=
          next.sorted && last <= next.first;  // last is 0 before the first
      last = next.last;
      all_or |= next.all_or;
      all_and &= next.all_and;
      kept += next.kept;
      return *this;
    }
  };

  // The keys of positions [begin, end), from keys_[begin] on.
  template <Outside outside, class Index>
  Seen MakeKeys(const Index* indices, int64_t begin, int64_t end,
                int64_t rows) {
    Seen seen;
    uint64_t* const keys = keys_.get() + begin;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t id = indices[i];
      const bool inside = id >= 0 && id < rows;
      if (outside == Outside::kLeaveOut && !inside) continue;
      seen.in_range &= inside;
      const uint64_t bits = static_cast<uint64_t>(id);
      seen.sorted &= bits >= seen.last;
      seen.last = bits;
      seen.all_or |= bits;
      seen.all_and &= bits;
      keys[seen.kept++] = bits << position_bits_ | static_cast<uint64_t>(i);
    }
    if (seen.kept > 0) seen.first = keys[0] >> position_bits_;
    return seen;
  }

  // Orders the keys by the lowest `bits` bits of their ids.
  void SortBits(int bits, const ParallelFor& parallel_for) {
    if (count_ <= 128) {
      std::sort(keys_.get(), keys_.get() + count_);
      return;
    }
    const Blocks blocks(count_, parallel_for);
    const int passes = (bits + kDigitBits - 1) / kDigitBits;
    const int digit_bits = (bits + passes - 1) / passes;
    std::unique_ptr<uint64_t[]> other(new uint64_t[count_]);
    std::unique_ptr<int64_t[]> starts(
        new int64_t[blocks.number() << digit_bits]);
    for (int pass = 0; pass < passes; ++pass) {
      Scatter(blocks, position_bits_ + pass * digit_bits, digit_bits,
              starts.get(), other.get());
      std::swap(keys_, other);
    }
  }

  // starts: for each block and digit.
  void Scatter(const Blocks& blocks, int shift, int digit_bits, int64_t* starts,
               uint64_t* out) const {
    const int64_t digits = int64_t{1} << digit_bits;
    const uint64_t mask = static_cast<uint64_t>(digits - 1);
    const uint64_t* const keys = keys_.get();
    blocks.ForEach([=](int64_t b, int64_t begin, int64_t end) {
      int64_t* const counts = starts + b * digits;
      std::fill(counts, counts + digits, 0);
      for (int64_t i = begin; i < end; ++i) ++counts[keys[i] >> shift & mask];
    });
    int64_t start = 0;  // of a digit the first block's keys come first
    for (int64_t d = 0; d < digits; ++d) {
      for (int64_t b = 0; b < blocks.number(); ++b) {
        start += std::exchange(starts[b * digits + d], start);
      }
    }
    blocks.ForEach([=](int64_t b, int64_t begin, int64_t end) {
      int64_t* const places = starts + b * digits;
      for (int64_t i = begin; i < end; ++i) {
        out[places[keys[i] >> shift & mask]++] = keys[i];
      }
    });
  }

  std::unique_ptr<uint64_t[]> keys_;
  const uint64_t* taken_ = nullptr;  // in place of them
  int64_t count_ = 0;
  int position_bits_ = 0;
};

// An id outside its table.
struct BadIndex {
  static constexpr int64_t kNotSorted = -2;

  int64_t item = -1;      // -1: none
  int64_t position = -1;  // kNotSorted: keys were given that are not its ids'
};

// Gives each item a sorter. order(item, &sorter) has its ids ordered, and
// returns -1 or what is the matter with them; `cost` is that of an id.
template <class Item, class Order>
BadIndex OrderItems(const std::vector<Item>& items, double cost,
                    const ParallelFor& parallel_for,
                    std::vector<IdSorter>* sorters, const Order& order) {
  sorters->resize(items.size());
  std::vector<int64_t> bad(items.size(), -1);
  double ids = 0;
  for (const Item& item : items) ids += static_cast<double>(item.count);
  parallel_for(static_cast<int64_t>(items.size()),
               cost * ids / static_cast<double>(items.size()),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   bad[i] = order(items[i], &(*sorters)[i]);
                 }
               });
  for (size_t i = 0; i < bad.size(); ++i) {
    if (bad[i] != -1) return {static_cast<int64_t>(i), bad[i]};
  }
  return {};
}

// Sorts the ids of each item, which has indices, count and rows.
template <Outside outside = Outside::kRefuse, class Item>
BadIndex SortItems(const std::vector<Item>& items,
                   const ParallelFor& parallel_for,
                   std::vector<IdSorter>* sorters) {
  return OrderItems(items, kSortCost, parallel_for, sorters,
                    [&](const Item& item, IdSorter* sorter) {
                      return sorter->template Sort<outside>(
                          item.indices, item.count, item.rows, parallel_for);
                    });
}

// Where they are sorted already: `sorted` of each item has the keys.
template <class Item>
BadIndex TakeItems(const std::vector<Item>& items,
                   const ParallelFor& parallel_for,
                   std::vector<IdSorter>* sorters) {
  return OrderItems(items, kSortCost / 4, parallel_for, sorters,
                    [](const Item& item, IdSorter* sorter) {
                      const bool taken = sorter->Take(item.sorted, item.indices,
                                                      item.count, item.rows);
                      return taken ? int64_t{-1} : BadIndex::kNotSorted;
                    });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SORT_IDS_H_
