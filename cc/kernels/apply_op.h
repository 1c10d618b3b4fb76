// TfOptim>ResourceApply<Name>: one step of a list of variables with dense
// gradients, for any rule.
#ifndef TF_OPTIM_CC_KERNELS_APPLY_OP_H_
#define TF_OPTIM_CC_KERNELS_APPLY_OP_H_

#include <vector>

#include "cc/drivers/dense_cpu.h"
#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"

namespace tf_optim {

template <class AllVariants, class TfType>
class ApplyOp : public StepOp {
 public:
  using T = typename StorageTypeOf<TfType>::type;

  explicit ApplyOp(tensorflow::OpKernelConstruction* context)
      : StepOp(context, TraitsOf(AllVariants()), /*sparse=*/false) {}

  void TakeStep(tensorflow::OpKernelContext* context, HeldStep* step) override {
    OP_REQUIRES_OK(context, Begin(context, Locking::kExclusive, step));
    const bool found =
        VisitVariant(AllVariants(), layout().variant, [&](auto rule) {
          if (check_only()) return;
          Run<decltype(rule)>(context, step->numbers, &step->variables);
        });
    OP_REQUIRES(context, found, NoSuchVariantError(traits(), layout()));
  }

 private:
  template <class Rule>
  void Run(tensorflow::OpKernelContext* context, const StepNumbers& numbers,
           LockedVariables* variables) {
    std::vector<DenseItem<Rule, T>> items(layout().count);
    for (int i = 0; i < layout().count; ++i) {
      const tensorflow::Tensor& grad = context->input(layout().grad + i);
      items[i] = {VariableAt<Rule, T>(i, numbers, variables),
                  static_cast<const T*>(grad.data()), grad.NumElements()};
    }
    const Averaging averaging = AveragingOf(numbers);
    Measuring<T>(context, [&](UpdateNorms<T>* norms) {
      ApplyDense(&items, Prepare<Rule, T>(numbers),
                 FindKernels<AllVariants, Rule, T>(isa()),
                 DeviceThreads(context), AveragesOf<T>(averaging, variables),
                 norms);
    });
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_APPLY_OP_H_
