// The moving average of a variable (use_ema), which its step brings along:
//
//   average = momentum * average + (1 - momentum) * var
//
// A row that lies idle keeps its value, so k such updates are one with
// momentum^k. The average of a table is therefore brought along row by row:
// each row knows how many updates its average has seen.
//
// The average may also be the mean of the variable at its updates, so that
// momentum is n / (n + 1) after n of them; k updates of an idle row are one
// with n / (n + k). A step that is none of the updates has momentum 1.
#ifndef TF_OPTIM_CC_DRIVERS_AVERAGE_H_
#define TF_OPTIM_CC_DRIVERS_AVERAGE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cc/drivers/cpu.h"

namespace tf_optim {

// What all averages of a step share.
class Averaging {
 public:
  // `updates` have been done before this one; the first `begins` of all set the
  // average to the variable. -1: it is the mean.
  Averaging(double momentum, int64_t updates, int64_t begins)
      : momentum_(momentum),
        updates_(updates),
        begins_(begins),
        powers_(kPowers) {
    double power = 1;
    for (double& p : powers_) {
      p = power;
      power *= momentum;
    }
  }

  int64_t updates() const { return updates_; }
  int64_t updates_with_this() const {
    return is_mean() && momentum_ == 1 ? updates_ : updates_ + 1;
  }

  // What the update of this step keeps of the average.
  double Kept() const {
    return is_mean() ? momentum_ : KeptBy(updates_, updates_ + 1);
  }

  // What the updates behind number `seen` and up to number `last` keep of it.
  double KeptBy(int64_t seen, int64_t last) const {
    if (seen >= last) return 1;
    if (is_mean()) {
      return static_cast<double>(seen) / static_cast<double>(last);
    }
    if (seen < std::min(begins_, last)) return 0;
    const int64_t count = last - seen;
    return count < kPowers ? powers_[count]
                           : std::pow(momentum_, static_cast<double>(count));
  }

 private:
  bool is_mean() const { return begins_ < 0; }

  static constexpr int64_t kPowers = 512;  // that a step does not call pow for

  double momentum_;
  int64_t updates_, begins_;
  std::vector<double> powers_;
};

// The average of one variable, in memory.
template <class T>
struct Average {
  T* data = nullptr;                // null: there is none
  int32_t* updates_seen = nullptr;  // by each row; null: all updates
};

// The loops, compiled once per instruction set.
template <class T>
struct AverageKernels {
  // Elements [begin, end), after their update.
  void (*span)(const Average<T>& average, const T* var, int64_t begin,
               int64_t end, const Averaging& averaging);
  // The rows whose ids begin at sorted positions [begin, end): before their
  // update for the updates that they have missed, and after it.
  void (*catch_up_rows)(const Average<T>& average, const T* var, int64_t width,
                        const SortedIds& ids, int64_t begin, int64_t end,
                        const Averaging& averaging);
  void (*rows)(const Average<T>& average, const T* var, int64_t width,
               const SortedIds& ids, int64_t begin, int64_t end,
               const Averaging& averaging);
};

// The averages of a step's variables; nothing where there are none.
template <class T>
struct Averages {
  const Averaging* averaging = nullptr;
  const AverageKernels<T>* kernels = nullptr;
  std::vector<Average<T>> of;  // one per variable, or none at all

  const Average<T>* at(size_t i) const {
    return of.empty() || of[i].data == nullptr ? nullptr : &of[i];
  }
};

// Calls update(begin, end) and then after(begin, end) for blocks of a range, so
// small that what the one has written is in a cache for the other.
template <class Update, class After>
void InBlocks(int64_t begin, int64_t end, int64_t block, const Update& update,
              const After& after) {
  for (int64_t b = begin; b < end; b += block) {
    const int64_t e = std::min(end, b + block);
    update(b, e);
    after(b, e);
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_AVERAGE_H_
