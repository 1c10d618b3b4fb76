// The ops of cc/ops on a GPU, for any rule: tensors in, pointers and a stream
// out. The kernels behind GpuKernelTable are built by nvcc; this is not.
#ifndef TF_OPTIM_CC_KERNELS_GPU_STEP_OP_H_
#define TF_OPTIM_CC_KERNELS_GPU_STEP_OP_H_

#include <mutex>
#include <vector>

#include "cc/drivers/gpu.h"
#include "cc/kernels/step_op.h"

namespace tf_optim {

class GpuStepOp : public StepOp {
 public:
  using Find = const GpuKernels* (*)(uint32_t variant, Storage storage);

  GpuStepOp(tensorflow::OpKernelConstruction* context, OptimizerTraits traits,
            bool sparse, Find find);
  ~GpuStepOp() override;

 protected:
  void TakeStep(tensorflow::OpKernelContext* context) override;
  Memory memory() const override { return Memory::kDevice; }
  absl::Status Copy(tensorflow::OpKernelContext* context, void* to,
                    const void* from, size_t bytes) const override;

 private:
  // The error of an index that a step before this one skipped.
  absl::Status EarlierError();
  GpuItem ItemAt(tensorflow::OpKernelContext* context, int i,
                 LockedVariables* variables) const;
  GpuStep StepOf(tensorflow::OpKernelContext* context,
                 const StepNumbers& numbers) const;

  const GpuKernels* kernels_;
  GpuSparse sparse_;
  bool is_sparse_;
  std::mutex mutex_;
  BadIndexReport* report_ = nullptr;  // made by the first sparse step
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
