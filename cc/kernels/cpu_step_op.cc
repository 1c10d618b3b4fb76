// TfOptim>ResourceApply<Name> and TfOptim>ResourceSparseApply<Name> on the CPU:
// one step of a list of variables, for any rule.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"
#include "cc/rules/all_rules.h"
#include "cc/steps/step.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

class CpuStepOp : public StepOp {
 public:
  CpuStepOp(OpKernelConstruction* context, const OptimizerTraits& traits,
            bool sparse)
      : StepOp(context, traits, sparse),
        is_sparse_(sparse),
        steps_(FindSteps(traits.name, layout().variant, StorageOf(dtype()))) {}

 private:
  void TakeStep(OpKernelContext* context, HeldStep* held) override {
    OP_REQUIRES_OK(
        context,
        Begin(context, is_sparse_ ? shared_locking() : Locking::kExclusive,
              held));
    if (check_only() && is_sparse_) {
      OP_REQUIRES_OK(context, CheckIndices(context, &held->variables));
    }
    OP_REQUIRES(context, steps_ != nullptr,
                NoSuchVariantError(traits(), layout()));
    if (check_only()) return;
    const Averaging averaging = AveragingOf(held->numbers);
    HostStep step = StepOf(context, held);
    const bool averages = layout().average != OpLayout::kAbsent;
    if (averages && !layout().LeavesIdleRows()) step.averaging = &averaging;
    std::vector<double> norms;
    if (measures_updates()) step.update_norms = &norms;
    const BadIndex bad = tf_optim::TakeStep(*steps_, step);
    OP_REQUIRES(context, bad.position != BadIndex::kNotSorted,
                absl::InvalidArgumentError(absl::StrCat(
                    "sorted_ids[", bad.item, "] must be indices[", bad.item,
                    "] as TfOptim>GradientNorms sorts them. Received: ",
                    "something else.")));
    OP_REQUIRES(
        context, bad.item < 0,
        BadIndexError(bad.item, bad.position, step.variables[bad.item].rows,
                      IndexAt(step, bad)));
    if (measures_updates()) OP_REQUIRES_OK(context, Output(context, norms));
  }

  // Without a sort.
  absl::Status CheckIndices(OpKernelContext* context,
                            LockedVariables* variables) const {
    for (int i = 0; i < layout().count; ++i) {
      const Tensor& ids = context->input(layout().indices + i);
      const absl::Status status = Are32Bits(ids)
                                      ? CheckIds<int32_t>(ids, i, variables)
                                      : CheckIds<int64_t>(ids, i, variables);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  template <class Index>
  static absl::Status CheckIds(const Tensor& ids, int i,
                               LockedVariables* variables) {
    const auto of = ids.flat<Index>();
    const int64_t rows = variables->var(i)->dim_size(0);
    const int64_t bad = FirstBadIndex(of.data(), of.size(), rows);
    return bad < 0 ? absl::OkStatus() : BadIndexError(i, bad, rows, of(bad));
  }

  static bool Are32Bits(const Tensor& ids) {
    return ids.dtype() == tensorflow::DT_INT32;
  }

  HostStep StepOf(OpKernelContext* context, HeldStep* held) const {
    const StepNumbers& numbers = held->numbers;
    HostStep step;
    step.hyper = numbers.hyper;
    step.learning_rates = numbers.learning_rates;
    step.iterations = numbers.iterations;
    step.is_sparse = is_sparse_;
    step.mode = layout().IsByRows() ? SparseMode::kLazy : SparseMode::kDense;
    step.means_over_idle_rows = layout().LeavesIdleRows();
    step.rounds_variables = rounds_variables();
    step.isa = isa();
    step.parallel_for = DeviceThreads(context);
    step.variables.resize(layout().count);
    for (int i = 0; i < layout().count; ++i) {
      const Tensor& var = *held->variables.var(i);
      const Tensor& grad = context->input(layout().grad + i);
      HostVariable& variable = step.variables[i];
      variable.memory = held->variables.MemoryOf(i);
      variable.size = var.NumElements();
      variable.grad = grad.data();
      if (is_sparse_) {
        const Tensor& ids = context->input(layout().indices + i);
        step.indices_are_32_bits = Are32Bits(ids);
        variable.rows = var.dim_size(0);
        variable.indices = ids.data();
        variable.count = ids.NumElements();
        variable.sorted = SortedIdsOf(context, i, variable.count);
      }
      variable.gradient_scale = numbers.scale(i);
      variable.clip_value = numbers.clip_value;
      variable.decay = numbers.decay(i);
      variable.rounding = RoundingAt(i, numbers);
    }
    return step;
  }

  // Null where there are none.
  const uint64_t* SortedIdsOf(OpKernelContext* context, int i,
                              int64_t count) const {
    if (layout().sorted_ids == OpLayout::kAbsent) return nullptr;
    const Tensor& ids = context->input(layout().sorted_ids + i);
    return ids.NumElements() == count ? static_cast<const uint64_t*>(ids.data())
                                      : nullptr;
  }

  absl::Status Output(OpKernelContext* context,
                      const std::vector<double>& norms) const {
    Tensor* squares;
    const absl::Status status =
        context->allocate_output(0, {layout().count}, &squares);
    if (!status.ok()) return status;
    std::copy(norms.begin(), norms.end(), squares->vec<double>().data());
    return status;
  }

  const bool is_sparse_;
  const StepsOfRule* const steps_;  // null: there is no such variant
};

class Factory : public tensorflow::kernel_factory::OpKernelFactory {
 public:
  Factory(OptimizerTraits traits, bool sparse)
      : traits_(std::move(traits)), is_sparse_(sparse) {}

  OpKernel* Create(OpKernelConstruction* context) override {
    return new CpuStepOp(context, traits_, is_sparse_);
  }

 private:
  const OptimizerTraits traits_;
  const bool is_sparse_;
};

// One kernel for all dtypes that the op takes.
bool RegisterAll() {
  ForEachOptimizer([](auto variants) {
    const OptimizerTraits traits = TraitsOf(variants);
    for (const bool sparse : {false, true}) {
      for (const Handles handles : {Handles::kSeparate, Handles::kBundled}) {
        const std::string name = OpName(traits, sparse, handles);
        tensorflow::kernel_factory::OpKernelRegistrar(
            tensorflow::register_kernel::Name(name.c_str())
                .Device(tensorflow::DEVICE_CPU)
                .Build(),
            "tf_optim", std::make_unique<Factory>(traits, sparse));
      }
    }
  });
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace tf_optim
