// TfOptim>ResourceSparseApply<Name>: one step of a list of variables with
// sparse gradients, for any rule.
#ifndef TF_OPTIM_CC_KERNELS_SPARSE_APPLY_OP_H_
#define TF_OPTIM_CC_KERNELS_SPARSE_APPLY_OP_H_

#include <vector>

#include "cc/drivers/sparse_cpu.h"
#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"

namespace tf_optim {

template <class AllVariants, class TfType, class Index>
class SparseApplyOp : public StepOp {
 public:
  using T = typename StorageTypeOf<TfType>::type;

  explicit SparseApplyOp(tensorflow::OpKernelConstruction* context)
      : StepOp(context, TraitsOf(AllVariants()), /*sparse=*/true) {}

  void TakeStep(tensorflow::OpKernelContext* context, HeldStep* step) override {
    OP_REQUIRES_OK(context, Begin(context, shared_locking(), step));
    if (check_only())
      OP_REQUIRES_OK(context, CheckIndices(context, &step->variables));
    const bool found =
        VisitVariant(AllVariants(), layout().variant, [&](auto rule) {
          if (check_only()) return;
          Run<decltype(rule)>(context, step->numbers, &step->variables);
        });
    OP_REQUIRES(context, found, NoSuchVariantError(traits(), layout()));
  }

 private:
  // Without a sort.
  absl::Status CheckIndices(tensorflow::OpKernelContext* context,
                            LockedVariables* variables) const {
    for (int i = 0; i < layout().count; ++i) {
      const auto ids = context->input(layout().indices + i).flat<Index>();
      const int64_t rows = variables->var(i)->dim_size(0);
      const int64_t bad = FirstBadIndex(ids.data(), ids.size(), rows);
      if (bad >= 0) return BadIndexError(i, bad, rows, ids(bad));
    }
    return absl::OkStatus();
  }

  template <class Rule>
  void Run(tensorflow::OpKernelContext* context, const StepNumbers& numbers,
           LockedVariables* variables) {
    std::vector<SparseItem<Rule, T, Index>> items(layout().count);
    for (int i = 0; i < layout().count; ++i) {
      const tensorflow::Tensor& grad = context->input(layout().grad + i);
      const tensorflow::Tensor& indices = context->input(layout().indices + i);
      items[i] = {VariableAt<Rule, T>(i, numbers, variables),
                  static_cast<const T*>(grad.data()),
                  static_cast<const Index*>(indices.data()),
                  indices.NumElements(), variables->var(i)->dim_size(0)};
    }
    const ParallelFor parallel_for = DeviceThreads(context);
    std::vector<IdSorter> sorters;
    const BadIndex bad = SortItems(items, parallel_for, &sorters);
    if (bad.item >= 0) {
      const auto& item = items[bad.item];
      OP_REQUIRES_OK(context, BadIndexError(bad.item, bad.position, item.rows,
                                            item.indices[bad.position]));
    }
    const Averaging averaging = AveragingOf(numbers);
    const SparseMode mode =
        layout().IsByRows() ? SparseMode::kLazy : SparseMode::kDense;
    Measuring<T>(context, [&](UpdateNorms<T>* norms) {
      ApplySparse(&items, sorters, mode, Prepare<Rule, T>(numbers),
                  FindKernels<AllVariants, Rule, T>(isa()), parallel_for,
                  AveragesOf<T>(averaging, variables), norms);
    });
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_SPARSE_APPLY_OP_H_
