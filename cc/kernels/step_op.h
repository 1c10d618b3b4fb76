// What the dense and the sparse op of every optimizer have in common.
#ifndef TF_OPTIM_CC_KERNELS_STEP_OP_H_
#define TF_OPTIM_CC_KERNELS_STEP_OP_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cc/cpu/average.h"
#include "cc/cpu/kernels.h"
#include "cc/cpu/norms.h"
#include "cc/drivers/cpu.h"
#include "cc/drivers/update_norms.h"
#include "cc/kernels/step_histories.h"
#include "cc/kernels/variables.h"
#include "cc/ops/layout.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/types.h"

namespace tf_optim {

// The drivers' storage type of a TensorFlow type.
template <class TfType>
struct StorageTypeOf {
  using type = TfType;
};
template <>
struct StorageTypeOf<Eigen::half> {
  using type = Float16;
};
template <>
struct StorageTypeOf<Eigen::bfloat16> {
  using type = BFloat16;
};

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

  template <class Rule, class T>
  ForVariables<CoefficientsOf<Rule, T>> Prepare(
      const StepNumbers& numbers) const {
    typename Rule::template Hyper<double> hyper;
    ForEachField(hyper,
                 [&](auto i, double& value) { value = numbers.hyper[i]; });
    const double step = static_cast<double>(numbers.iterations) + 1;
    std::vector<CoefficientsOf<Rule, T>> of_rates;
    for (const double rate : numbers.learning_rates) {
      of_rates.push_back(PrepareAs<Rule, ComputeType<T>>(hyper, {rate, step}));
    }
    return ForVariables<CoefficientsOf<Rule, T>>(std::move(of_rates));
  }

  // The memory of the i-th variable and its slots.
  template <class Rule, class T>
  Variable<Rule, T> VariableAt(int i, const StepNumbers& numbers,
                               LockedVariables* variables) const {
    Variable<Rule, T> variable;
    const tensorflow::Tensor& var = *variables->var(i);
    variable.var = static_cast<T*>(var.data());
    if (var.dims() > 0) {
      const int64_t rows = var.dim_size(0);
      variable.width = rows > 0 ? var.NumElements() / rows : 0;
    }
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      tensorflow::Tensor* slot = variables->slot(s, i);
      if (slot == nullptr) continue;
      if (slot->dtype() == tensorflow::DataTypeToEnum<ComputeType<T>>::value) {
        variable.slots[s] = static_cast<ComputeType<T>*>(slot->data());
      } else {
        variable.packed[s] = static_cast<uint8_t*>(slot->data());
      }
    }
    variable.format = variables->format(i);
    if (!rounding_seeds_.empty()) {
      variable.rounding = RoundingOf(rounding_seeds_[i], numbers.iterations);
      variable.rounds_var = rounds_variables_;
    }
    SetClipAndDecay(numbers.scale(i), numbers.clip_value, numbers.decay(i),
                    &variable);
    return variable;
  }

  // The moving averages that the step brings along.
  template <class T>
  Averages<T> AveragesOf(const Averaging& averaging,
                         LockedVariables* variables) const {
    Averages<T> averages;
    if (layout().average == OpLayout::kAbsent || layout().LeavesIdleRows()) {
      return averages;
    }
    averages.averaging = &averaging;
    averages.kernels = &FindAverageKernels<T>(isa());
    for (int i = 0; i < layout().count; ++i) {
      tensorflow::Tensor* const rows = variables->average_rows(i);
      averages.of.push_back(
          {static_cast<T*>(variables->average(i)->data()),
           rows ? static_cast<int32_t*>(rows->data()) : nullptr});
    }
    return averages;
  }

  // Calls run(norms), which takes the step of variables of T, and outputs what
  // it has measured if it is asked for.
  template <class T, class Run>
  void Measuring(tensorflow::OpKernelContext* context, const Run& run) const {
    if (update_norms_ == 0) return run(nullptr);
    UpdateNorms<T> norms(FindNormKernels<ComputeType<T>>(isa()));
    run(&norms);
    if (!context->status().ok()) return;
    tensorflow::Tensor* squares;
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, {layout_.count}, &squares));
    std::copy(norms.squares().begin(), norms.squares().end(),
              squares->vec<double>().data());
  }

  Averaging AveragingOf(const StepNumbers& numbers) const {
    return {numbers.average_momentum, numbers.average_updates, average_begins_};
  }

 private:
  absl::Status CheckGradient(tensorflow::OpKernelContext* context,
                             const tensorflow::Tensor& var, int i) const;
  absl::Status BeginHistories(tensorflow::OpKernelContext* context,
                              HeldStep* step) const;
  std::vector<double> HyperOf(const StepNumbers& numbers) const;
  void EndHistories(tensorflow::OpKernelContext* context, HeldStep* step) const;

  OptimizerTraits traits_;
  OpLayout layout_;
  tensorflow::DataType dtype_;
  bool use_locking_, check_only_;
  int64_t average_begins_;
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
