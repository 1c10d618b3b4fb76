// Variables that have been found by their handles, for a step or for longer.
#ifndef TF_OPTIM_CC_KERNELS_FOUND_VARIABLES_H_
#define TF_OPTIM_CC_KERNELS_FOUND_VARIABLES_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace tf_optim {

class FoundVariables {
 public:
  // What a message calls the variable at a position.
  using NameOf = std::function<std::string(size_t position)>;

  // Each handle must be that of another variable, on this device.
  static absl::Status Find(
      tensorflow::OpKernelContext* context,
      const std::vector<const tensorflow::ResourceHandle*>& handles,
      const NameOf& name_of, std::shared_ptr<const FoundVariables>* found);

  size_t size() const { return vars_.size(); }
  tensorflow::Var& at(size_t position) const { return *vars_[position]; }
  // Their positions, in the order in which everybody locks.
  const std::vector<size_t>& lock_order() const { return lock_order_; }

 private:
  std::vector<tensorflow::core::RefCountPtr<tensorflow::Var>> vars_;
  std::vector<size_t> lock_order_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_FOUND_VARIABLES_H_
