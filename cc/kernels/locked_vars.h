// Variables that an op holds for itself, of any number and kind. A step's own
// are LockedVariables, which also checks what they are.
#ifndef TF_OPTIM_CC_KERNELS_LOCKED_VARS_H_
#define TF_OPTIM_CC_KERNELS_LOCKED_VARS_H_

#include <algorithm>
#include <utility>
#include <vector>

#include "cc/kernels/variables.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace tf_optim {

// Locks in order of address, as steps do, until it is gone.
class LockedVars {
 public:
  using Vars = std::vector<tensorflow::core::RefCountPtr<tensorflow::Var>>;

  // `vars` stay with the caller; one may be null, or stand twice.
  explicit LockedVars(const Vars& vars) {
    for (const auto& var : vars) {
      vars_.push_back(var.get());
      if (var != nullptr) mutexes_.push_back(var->mu());
    }
    std::sort(mutexes_.begin(), mutexes_.end());
    mutexes_.erase(std::unique(mutexes_.begin(), mutexes_.end()),
                   mutexes_.end());
    for (auto* mutex : mutexes_) mutex->lock();
  }
  ~LockedVars() {
    for (auto it = mutexes_.rbegin(); it != mutexes_.rend(); ++it) {
      (*it)->unlock();
    }
  }
  LockedVars(const LockedVars&) = delete;
  LockedVars& operator=(const LockedVars&) = delete;

  size_t size() const { return vars_.size(); }

  // Null for a null variable.
  tensorflow::Tensor* at(size_t i) const {
    return vars_[i] == nullptr ? nullptr : vars_[i]->tensor();
  }

  // From now on nobody else holds the memory of the i-th.
  absl::Status MakeOwn(tensorflow::OpKernelContext* context, size_t i) const {
    if (vars_[i] == nullptr) return absl::OkStatus();
    return CopyIfShared(context, CopyOnHost, at(i));
  }

 private:
  using Mutex = decltype(std::declval<tensorflow::Var>().mu());
  std::vector<tensorflow::Var*> vars_;
  std::vector<Mutex> mutexes_;
};

// The variables of inputs [0, count).
inline absl::Status VarsOfInputs(tensorflow::OpKernelContext* context,
                                 int count, LockedVars::Vars* vars) {
  for (int i = 0; i < count; ++i) {
    vars->emplace_back();
    TF_RETURN_IF_ERROR(tensorflow::LookupResource(
        context, tensorflow::HandleFromInput(context, i), &vars->back()));
  }
  return absl::OkStatus();
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_LOCKED_VARS_H_
