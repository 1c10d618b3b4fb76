// The ops of cc/ops on a GPU, for any rule: tensors in, pointers and a stream
// out. The kernels behind GpuKernelTable are built by nvcc; this is not.
#ifndef TF_OPTIM_CC_KERNELS_GPU_STEP_OP_H_
#define TF_OPTIM_CC_KERNELS_GPU_STEP_OP_H_

#include <map>
#include <mutex>
#include <vector>

#include "cc/cuda/memory.h"
#include "cc/drivers/gpu.h"
#include "cc/kernels/step_op.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/lib/core/refcount.h"

namespace tf_optim {

class GpuStepOp : public StepOp {
 public:
  using Find = const GpuKernels* (*)(uint32_t variant, Storage storage);

  GpuStepOp(tensorflow::OpKernelConstruction* context, OptimizerTraits traits,
            bool sparse, Find find);
  ~GpuStepOp() override;

 protected:
  void TakeStep(tensorflow::OpKernelContext* context, HeldStep* taken) override;
  Memory memory() const override { return Memory::kDevice; }
  absl::Status Copy(tensorflow::OpKernelContext* context, void* to,
                    const void* from, size_t bytes) const override;

 private:
  // Where steps on a variable tell of bad indices.
  struct VariableReport {
    tensorflow::core::WeakPtr<tensorflow::Var> variable;
    OwnedReport owned;
  };

  // The report of this op's steps whose first variable is the context's. In
  // eager mode models share kernels: an error is that of its own model's next
  // step.
  absl::Status ReportOf(tensorflow::OpKernelContext* context,
                        OwnedReport* report);
  GpuItem ItemAt(tensorflow::OpKernelContext* context, int i,
                 LockedVariables* variables) const;
  GpuStep StepOf(tensorflow::OpKernelContext* context,
                 const StepNumbers& numbers) const;

  const GpuKernels* kernels_;
  GpuSparse sparse_;
  bool is_sparse_;
  std::mutex mutex_;
  // By address, which a later variable may have again: the weak pointer tells.
  std::map<const tensorflow::Var*, VariableReport> reports_;
};

template <class AllVariants, bool sparse>
class GpuApplyOp : public GpuStepOp {
 public:
  explicit GpuApplyOp(tensorflow::OpKernelConstruction* context)
      : GpuStepOp(context, TraitsOf(AllVariants()), sparse,
                  &GpuKernelTable<AllVariants>::Find) {}
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_GPU_STEP_OP_H_
