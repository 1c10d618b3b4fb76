// TfOptim>RowHistory: which steps each row of a table has seen, and what those
// that it missed would have done (sparse_update="exact").
//
// A resource beside the table's variable. It holds the table and its slots from
// the first step of rows on, so whoever reads the table needs nothing but this.
#ifndef TF_OPTIM_CC_KERNELS_ROW_HISTORY_H_
#define TF_OPTIM_CC_KERNELS_ROW_HISTORY_H_

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "cc/drivers/chunks.h"
#include "cc/kernels/locked_vars.h"
#include "cc/steps/step.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace tf_optim {

// What a history is of.
struct IdleKind {
  std::string optimizer;
  uint32_t variant;
  Storage storage;
  bool averaged = false;

  bool operator==(const IdleKind& other) const {
    return optimizer == other.optimizer && variant == other.variant &&
           storage == other.storage && averaged == other.averaged;
  }
};

class RowHistory : public tensorflow::ResourceBase {
 public:
  using Vars = LockedVars::Vars;

  std::string DebugString() const override;

  // Whoever calls what follows holds it.
  absl::Mutex* mu() ABSL_LOCK_RETURNED(mu_) { return &mu_; }

  // Brings the rows of these ids, int32 or int64, up to date. Ids that no row
  // has are left to the op that uses them.
  absl::Status CatchUp(tensorflow::OpKernelContext* context,
                       const tensorflow::Tensor& ids)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CatchUpAll(tensorflow::OpKernelContext* context)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // What CatchUp would make of rows, into `rows`, in the order of the ids. All
  // is as it was: of replicas that read different rows none may change any.
  absl::Status Read(tensorflow::OpKernelContext* context,
                    tensorflow::Var* table, const tensorflow::Tensor& ids,
                    tensorflow::Tensor* rows)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // No step of some rows from now on: nobody asks before the table is read.
  void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { is_closed_ = true; }
  // Whether all rows are up to date.
  bool IsCaughtUp() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return steps_ == nullptr || all_seen_ == now_;
  }

  // The rows that steps behind number `since` have updated, in order. An error
  // if the history does not reach as far back.
  absl::Status TouchedRows(int64_t since, std::vector<int64_t>* rows) const
      ABSL_SHARED_LOCKS_REQUIRED(mu_);

  // --- a step of some rows

  // Before it: whose steps these are, `vars` being the table, kMaxSlots slots
  // and the moving average, null where absent.
  absl::Status Bind(tensorflow::OpKernelContext* context, const IdleKind& kind,
                    const std::vector<double>& hyper, Vars vars)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // To be called when the table is read, its rows being up to date then.
  void NoteRead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { reads_ |= 1; }
  // An error unless a gradient of these rows is one of rows that were up to
  // date: they still are, or may have been when they were read (one tape may
  // give the gradients of several steps, and threads take turns), or it is 0,
  // as that of a branch which was not taken is. `number` is the table's in the
  // step; `behind`: whether rows are to be caught up before they are updated.
  absl::Status Check(const tensorflow::Tensor& ids,
                     const tensorflow::Tensor& gradient, int64_t number,
                     bool* behind) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  // After it: all of these rows were up to date before. `table` is that of the
  // variables that are bound, which are locked.
  void Advance(tensorflow::OpKernelContext* context, const IdleStep& step,
               const tensorflow::Tensor& ids, const HostMemory& table)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- after a step of all rows, all of them up to date before
  void AdvanceAll(int64_t iterations) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

 private:
  // Of a row. Side by side: a row's is one miss of the caches.
  struct Mark {
    std::atomic<int32_t> seen;
    // The number of the optimizer's step that updated the row last.
    int32_t touched;
  };

  template <class Index>
  void CatchUpRows(tensorflow::OpKernelContext* context,
                   const HostMemory& table, const Index* ids, int64_t count);
  template <class Index>
  void ReadRows(tensorflow::OpKernelContext* context,
                const std::vector<tensorflow::Tensor*>& tensors,
                const Index* ids, int64_t count, char* rows);
  template <class Index>
  absl::Status CheckRows(const Index* ids, int64_t count,
                         const tensorflow::Tensor& gradient, int64_t number,
                         bool* behind) const;
  template <class Index>
  void MarkRows(const Index* ids, int64_t count, int32_t step);
  template <class Index>
  void MoveAverages(tensorflow::OpKernelContext* context,
                    const HostMemory& table, const Index* ids, int64_t count,
                    double kept);
  // Steps are counted from the history's first one.
  int64_t SeenBy(int64_t row) const {
    return std::max<int64_t>(marks_[row].seen.load(std::memory_order_relaxed),
                             all_seen_);
  }
  bool MayHaveBeenRead(int64_t row) const {
    const int64_t behind = now_ - SeenBy(row);
    return behind < 64 && reads_ >> behind != 0;
  }
  // To be called by each step.
  void Count() {
    ++now_;
    reads_ <<= 1;
  }
  bool HasRow(int64_t id) const { return id >= 0 && id < rows_; }
  // Calls work with the table and its slots, which nobody else has meanwhile.
  absl::Status InLocks(
      tensorflow::OpKernelContext* context,
      const std::function<void(const std::vector<tensorflow::Tensor*>&)>& work);
  void MakeRows(int64_t rows);
  std::string StaleRow(int64_t row, int64_t number) const;

  absl::Mutex mu_;
  int64_t rows_ = 0;
  int64_t now_ = 0;       // steps taken
  int64_t all_seen_ = 0;  // every row has seen so many
  // Whether the table was read when `now_` was less by 0, 1, ... 63. Longer
  // ago, whoever computes gradients reads the table by other means.
  uint64_t reads_ = 0;
  std::unique_ptr<Mark[]> marks_;
  // The number of the optimizer's step after which it is known which rows were
  // touched; and of the last one that touched all.
  int64_t touched_since_ = -1, all_touched_ = -1;

  IdleKind kind_;
  std::vector<double> hyper_;
  Vars vars_;
  std::unique_ptr<IdleSteps> steps_;
  bool is_closed_ = false;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_ROW_HISTORY_H_
