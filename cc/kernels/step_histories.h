// The histories of a step's tables, which nobody else has while it is taken.
#ifndef TF_OPTIM_CC_KERNELS_STEP_HISTORIES_H_
#define TF_OPTIM_CC_KERNELS_STEP_HISTORIES_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "cc/kernels/row_history.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"

namespace tf_optim {

// The history behind an op's input, or why there is none.
absl::Status HistoryAt(tensorflow::OpKernelContext* context, int input,
                       tensorflow::core::RefCountPtr<RowHistory>* history);

class StepHistories {
 public:
  StepHistories() = default;
  StepHistories(const StepHistories&) = delete;
  StepHistories& operator=(const StepHistories&) = delete;
  ~StepHistories();

  // Those of inputs [first, first + count), in order of address: before the
  // variables are locked. Each must be another one.
  absl::Status Lock(tensorflow::OpKernelContext* context, int first, int count);

  RowHistory& at(int i) const { return *histories_[i]; }

 private:
  std::vector<tensorflow::core::RefCountPtr<RowHistory>> histories_;
  std::vector<absl::Mutex*> locks_;  // held
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_STEP_HISTORIES_H_
