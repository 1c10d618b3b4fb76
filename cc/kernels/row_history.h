// TfOptim>RowHistory: which steps each row of a table has seen, and what those
// that it missed would have done (sparse_update="exact").
//
// A resource beside the table's variable. It holds the table and its slots from
// the first step on, so whoever reads the table needs nothing but this.
#ifndef TF_OPTIM_CC_KERNELS_ROW_HISTORY_H_
#define TF_OPTIM_CC_KERNELS_ROW_HISTORY_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "cc/drivers/chunks.h"
#include "cc/kernels/idle_steps.h"
#include "cc/kernels/locked_vars.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace tf_optim {

class RowHistory : public tensorflow::ResourceBase {
 public:
  using Vars = LockedVars::Vars;

  std::string DebugString() const override;

  // Brings the rows of these ids up to date. Ids that no row has are left to
  // the op that uses them.
  template <class Index>
  absl::Status CatchUp(tensorflow::OpKernelContext* context,
                       const Index* indices, int64_t count);
  absl::Status CatchUpAll(tensorflow::OpKernelContext* context);

  // An error unless these rows are up to date. `number` is the table's in it.
  template <class Index>
  absl::Status Check(const Index* indices, int64_t count, int64_t number);

  // After a step of the table in `vars` (then kMaxSlots slots and the moving
  // average, null where absent)
  // that has updated the rows of these ids, all of them up to date before.
  template <class Index>
  absl::Status Advance(tensorflow::OpKernelContext* context,
                       const IdleKind& kind, Vars vars, const IdleStep& step,
                       const Index* indices, int64_t count);
  // The same for a step that has updated all rows.
  absl::Status AdvanceAll(tensorflow::OpKernelContext* context,
                          const IdleStep& step);

  // The rows that steps behind number `since` have updated, in order. An error
  // if the history does not reach as far back.
  absl::Status TouchedRows(int64_t since, std::vector<int64_t>* rows);

 private:
  // Steps are counted from the history's first one.
  int64_t SeenBy(int64_t row) const {
    return std::max<int64_t>(seen_[row].load(std::memory_order_relaxed),
                             all_seen_);
  }
  bool HasRow(int64_t id) const { return id >= 0 && id < rows_; }
  absl::Status CatchUpAllLocked(tensorflow::OpKernelContext* context);
  // Calls work with the table and its slots, which nobody else has meanwhile.
  absl::Status InLocks(
      tensorflow::OpKernelContext* context,
      const std::function<void(const std::vector<tensorflow::Tensor*>&)>& work);
  void MakeRows(int64_t rows);
  absl::Status Bind(tensorflow::OpKernelContext* context, const IdleKind& kind,
                    const std::vector<double>& hyper, Vars vars);
  std::string StaleRow(int64_t row, int64_t number) const;

  absl::Mutex mu_;
  int64_t rows_ = 0;
  int64_t now_ = 0;       // steps taken
  int64_t all_seen_ = 0;  // every row has seen so many
  std::unique_ptr<std::atomic<int32_t>[]> seen_;
  // The number of the optimizer's step that updated each row last; and of that
  // after which this is known.
  std::vector<int32_t> touched_;
  int64_t touched_since_ = -1, all_touched_ = -1;

  IdleKind kind_;
  std::vector<double> hyper_;
  Vars vars_;
  std::unique_ptr<IdleSteps> steps_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_ROW_HISTORY_H_
