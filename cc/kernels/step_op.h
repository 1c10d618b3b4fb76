// What the dense and the sparse op of every optimizer have in common.
#ifndef TF_OPTIM_CC_KERNELS_STEP_OP_H_
#define TF_OPTIM_CC_KERNELS_STEP_OP_H_

#include <vector>

#include "cc/cpu/isa.h"
#include "cc/drivers/average.h"
#include "cc/kernels/step_histories.h"
#include "cc/kernels/variables.h"
#include "cc/ops/layout.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {

// What a step has: its numbers, and what is its own until it is over.
struct HeldStep {
  StepNumbers numbers;
  StepHistories histories;
  LockedVariables variables;  // released before the histories
};

// Reads the node's attributes and, at each step, its numbers.
class StepOp : public tensorflow::OpKernel {
 public:
  StepOp(tensorflow::OpKernelConstruction* context, OptimizerTraits traits,
         bool sparse);

  void Compute(tensorflow::OpKernelContext* context) final;

 protected:
  virtual void TakeStep(tensorflow::OpKernelContext* context,
                        HeldStep* step) = 0;

  // All that comes before the first write: numbers, variables, their locks,
  // every check. (Rows that lie behind are brought up to date here already.)
  absl::Status Begin(tensorflow::OpKernelContext* context, Locking locking,
                     HeldStep* step) const;

  // CPU steps are done when this returns; a GPU's ops override both.
  virtual Memory memory() const { return Memory::kHost; }
  virtual absl::Status Copy(tensorflow::OpKernelContext* context, void* to,
                            const void* from, size_t bytes) const;

  const OptimizerTraits& traits() const { return traits_; }
  const OpLayout& layout() const { return layout_; }
  tensorflow::DataType dtype() const { return dtype_; }
  // How a step locks that need not be alone.
  Locking shared_locking() const {
    return use_locking_ ? Locking::kExclusive : Locking::kShared;
  }
  bool check_only() const { return check_only_; }
  Isa isa() const { return isa_; }

  bool rounds_variables() const { return rounds_variables_; }
  bool measures_updates() const { return update_norms_ > 0; }
  // What the i-th variable's roundings are drawn from; 0: they are to nearest.
  uint64_t RoundingAt(int i, const StepNumbers& numbers) const {
    return rounding_seeds_.empty()
               ? 0
               : RoundingOf(rounding_seeds_[i], numbers.iterations);
  }
  Averaging AveragingOf(const StepNumbers& numbers) const {
    return {average_form_, numbers.average_momentum, numbers.average_updates};
  }

 private:
  absl::Status CheckGradient(tensorflow::OpKernelContext* context,
                             const tensorflow::Tensor& var, int i) const;
  absl::Status BeginHistories(tensorflow::OpKernelContext* context,
                              HeldStep* step) const;
  void EndHistories(tensorflow::OpKernelContext* context, HeldStep* step) const;

  OptimizerTraits traits_;
  OpLayout layout_;
  tensorflow::DataType dtype_;
  bool use_locking_, check_only_;
  AverageForm average_form_;
  std::vector<int64_t> rounding_seeds_;
  bool rounds_variables_;
  int update_norms_;
  Isa isa_;
};

// Registers Op as the kernel of `name` for a device and constraints.
template <class Op>
void RegisterKernel(const tensorflow::KernelDef* definition) {
  tensorflow::kernel_factory::OpKernelRegistrar(
      definition, "tf_optim",
      [](tensorflow::OpKernelConstruction* context) -> tensorflow::OpKernel* {
        return new Op(context);
      });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_STEP_OP_H_
