// The average of a variable, which its step brings along:
//
//   average = momentum * average + (1 - momentum) * var
//
// A row that lies idle keeps its value, so k such updates are one, and the
// average of a table is brought along row by row: each row knows how many
// updates its average has seen.
#ifndef TF_OPTIM_CC_DRIVERS_AVERAGE_H_
#define TF_OPTIM_CC_DRIVERS_AVERAGE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cc/drivers/cpu.h"

namespace tf_optim {

// A step that is no update of a mean, or of slow weights, has momentum 1.
enum class AverageKind {
  kMoving,  // k updates of an idle row are one with momentum^k
  kMean,  // of the variable at n updates: momentum is n / (n + 1) then, and of
          // an idle row that has missed k of them n / (n + k)
  kSlow,  // an update gives the average to the variable; an idle row equals it
};

struct AverageForm {
  AverageKind kind = AverageKind::kMoving;
  int64_t begins = 0;  // so many updates, the first, set it to the variable

  // `read(attribute, &value)` reads an op's attribute.
  template <class Read>
  auto ReadFrom(const Read& read) {
    std::string name;
    auto status = read("average_kind", &name);
    if (!status.ok()) return status;
    kind = name == "mean"   ? AverageKind::kMean
           : name == "slow" ? AverageKind::kSlow
                            : AverageKind::kMoving;
    return read("average_begins", &begins);
  }
};

// What all averages of a step share.
class Averaging {
 public:
  // `updates` have been done before this one.
  Averaging(const AverageForm& form, double momentum, int64_t updates)
      : form_(form), momentum_(momentum), updates_(updates), powers_(kPowers) {
    double power = 1;
    for (double& p : powers_) {
      p = power;
      power *= momentum;
    }
  }

  int64_t updates() const { return updates_; }
  // How many a row that the step names has seen then. Slow weights: one more
  // than were done, for all that have been named since the last.
  int64_t SeenByNamed() const {
    const bool is_none = form_.kind == AverageKind::kMean && momentum_ == 1;
    return is_none ? updates_ : updates_ + 1;
  }
  // Whether this step gives slow weights to the variable.
  bool Gives() const {
    return form_.kind == AverageKind::kSlow && momentum_ < 1;
  }

  // What the update of this step keeps of the average.
  double Kept() const {
    return form_.kind == AverageKind::kMoving ? KeptBy(updates_, updates_ + 1)
                                              : momentum_;
  }
  // The same of a row that it names: slow weights wait for all rows.
  double KeptOfNamed() const {
    return form_.kind == AverageKind::kSlow ? 1 : Kept();
  }

  // What the updates behind number `seen` and up to number `last` keep of it.
  double KeptBy(int64_t seen, int64_t last) const {
    if (seen >= last || form_.kind == AverageKind::kSlow) return 1;
    if (form_.kind == AverageKind::kMean) {
      return static_cast<double>(seen) / static_cast<double>(last);
    }
    if (seen < std::min(form_.begins, last)) return 0;
    const int64_t count = last - seen;
    return count < kPowers ? powers_[count]
                           : std::pow(momentum_, static_cast<double>(count));
  }

 private:
  static constexpr int64_t kPowers = 512;  // that a step does not call pow for

  AverageForm form_;
  double momentum_;
  int64_t updates_;
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
  void (*span)(const Average<T>& average, T* var, int64_t begin, int64_t end,
               const Averaging& averaging);
  // The rows whose ids begin at sorted positions [begin, end): before their
  // update for the updates that they have missed, and after it.
  void (*catch_up_rows)(const Average<T>& average, const T* var, int64_t width,
                        const SortedIds& ids, int64_t begin, int64_t end,
                        const Averaging& averaging);
  void (*rows)(const Average<T>& average, const T* var, int64_t width,
               const SortedIds& ids, int64_t begin, int64_t end,
               const Averaging& averaging);
  // Slow weights, for those of the table's rows [begin, end) that have been
  // named since the last.
  void (*give_rows)(const Average<T>& average, T* var, int64_t width,
                    int64_t begin, int64_t end, const Averaging& averaging);
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
