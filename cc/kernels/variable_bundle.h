// All variables of an op, behind one handle. A tf.function that takes steps of
// 300 variables and their 600 slots captures that one in place of 900, and a
// step hands one tensor over.
#ifndef TF_OPTIM_CC_KERNELS_VARIABLE_BUNDLE_H_
#define TF_OPTIM_CC_KERNELS_VARIABLE_BUNDLE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "cc/kernels/found_variables.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/framework/resource_handle.h"

namespace tf_optim {

class VariableBundle : public tensorflow::ResourceBase {
 public:
  std::string DebugString() const override;

  // Says which variables. They need not exist before the first step.
  void Fill(std::vector<tensorflow::ResourceHandle> handles);

  // Finds them, once: from then on they live as long as the bundle.
  absl::Status Find(tensorflow::OpKernelContext* context, size_t count,
                    const FoundVariables::NameOf& name_of,
                    std::shared_ptr<const FoundVariables>* found);

 private:
  mutable absl::Mutex mu_;
  std::vector<tensorflow::ResourceHandle> handles_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const FoundVariables> found_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_VARIABLE_BUNDLE_H_
