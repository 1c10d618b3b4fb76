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

// Lengths laid end to end and cut into chunks of `chunk` (the last one of each
// length may be shorter). No chunk crosses from one length into the next.
class Chunks {
 public:
  explicit Chunks(int64_t chunk) : chunk_(chunk), first_{0} {}

  void Add(int64_t length) {
    lengths_.push_back(length);
    first_.push_back(first_.back() + (length + chunk_ - 1) / chunk_);
  }

  int64_t count() const { return first_.back(); }

  // Calls visit(item, begin, end) for the pieces in chunks [begin, end).
  template <class Visit>
  void ForEach(int64_t begin, int64_t end, Visit&& visit) const {
    auto next = std::upper_bound(first_.begin(), first_.end(), begin);
    for (size_t item = static_cast<size_t>(next - first_.begin()) - 1;
         begin < end; ++item) {
      const int64_t stop = std::min(end, first_[item + 1]);
      if (stop <= begin) continue;  // an empty item
      visit(item, (begin - first_[item]) * chunk_,
            std::min((stop - first_[item]) * chunk_, lengths_[item]));
      begin = stop;
    }
  }

 private:
  int64_t chunk_;
  std::vector<int64_t> lengths_;
  std::vector<int64_t> first_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CHUNKS_H_
