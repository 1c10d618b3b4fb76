// Many pieces of work of different lengths as one flat range, so that a list
// of variables is shared out among threads as if it were one.
#ifndef TF_OPTIM_CC_DRIVERS_CHUNKS_H_
#define TF_OPTIM_CC_DRIVERS_CHUNKS_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace tf_optim {

// Calls body(begin, end) over disjoint ranges that cover [0, total), maybe on
// several threads, and returns when all are done. `cost` is a guess of the
// nanoseconds that one unit takes.
using ParallelFor = std::function<void(
    int64_t total, double cost,
    const std::function<void(int64_t begin, int64_t end)>& body)>;

// Lengths laid end to end and cut into chunks (the last one of each length may
// be shorter). No chunk crosses from one length into the next.
class Chunks {
 public:
  // `cost` is a guess of the nanoseconds that one of `length` takes.
  void Add(int64_t length, int64_t chunk, double cost) {
    items_.push_back({length, chunk, count_, cost});
    count_ += (length + chunk - 1) / chunk;
  }

  int64_t count() const { return count_; }

  // The guess of the nanoseconds that an item takes.
  double cost(size_t item) const {
    return items_[item].cost * static_cast<double>(items_[item].length);
  }

  // The number of an item's first chunk.
  int64_t first(size_t item) const {
    return item < items_.size() ? items_[item].first : count_;
  }

  // Calls visit(item, begin, end) for the pieces in chunks [begin, end).
  template <class Visit>
  void ForEach(int64_t begin, int64_t end, Visit&& visit) const {
    auto next = std::upper_bound(
        items_.begin(), items_.end(), begin,
        [](int64_t chunk, const Item& item) { return chunk < item.first; });
    for (size_t i = static_cast<size_t>(next - items_.begin()) - 1; begin < end;
         ++i) {
      const Item& item = items_[i];
      const int64_t stop = std::min(end, first(i + 1));
      if (stop <= begin) continue;  // an empty item
      visit(i, (begin - item.first) * item.chunk,
            std::min((stop - item.first) * item.chunk, item.length));
      begin = stop;
    }
  }

 private:
  struct Item {
    int64_t length, chunk, first;
    double cost;
  };
  std::vector<Item> items_;
  int64_t count_ = 0;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CHUNKS_H_
