#include "cc/kernels/step_histories.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cc/kernels/history_handle.h"

namespace tf_optim {

absl::Status HistoryAt(tensorflow::OpKernelContext* context, int input,
                       tensorflow::core::RefCountPtr<RowHistory>* history) {
  const auto& handle = tensorflow::HandleFromInput(context, input);
  *history = HistoryBehind(context, handle);
  if (*history != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "history must be that of a prepared table. Received: '", handle.name(),
      "', which is none: no training in mode \"exact\" or \"eventual\" goes "
      "on ",
      "from a SavedModel."));
}

absl::Status StepHistories::Lock(tensorflow::OpKernelContext* context,
                                 int first, int count) {
  histories_.resize(count);
  std::vector<absl::Mutex*> mutexes;
  for (int i = 0; i < count; ++i) {
    const absl::Status status = HistoryAt(context, first + i, &histories_[i]);
    if (!status.ok()) return status;
    mutexes.push_back(histories_[i]->mu());
  }
  std::sort(mutexes.begin(), mutexes.end());
  if (std::adjacent_find(mutexes.begin(), mutexes.end()) != mutexes.end()) {
    return absl::InvalidArgumentError(
        "Each history must be that of one table. Received: one of two.");
  }
  for (absl::Mutex* mutex : mutexes) {
    mutex->Lock();
    locks_.push_back(mutex);
  }
  return absl::OkStatus();
}

StepHistories::~StepHistories() {
  for (auto lock = locks_.rbegin(); lock != locks_.rend(); ++lock) {
    (*lock)->Unlock();
  }
}

}  // namespace tf_optim
