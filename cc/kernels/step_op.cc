#include "cc/kernels/step_op.h"

#include <cmath>
#include <new>
#include <stdexcept>
#include <utility>

#include "absl/status/status.h"
#include "cc/drivers/sort_ids.h"

namespace tf_optim {

StepOp::StepOp(tensorflow::OpKernelConstruction* context,
               OptimizerTraits traits, bool sparse)
    : OpKernel(context), traits_(std::move(traits)) {
  const Handles handles =
      context->HasAttr(kBundledLists) ? Handles::kBundled : Handles::kSeparate;
  const auto read = [context](const std::string& attr, auto* value) {
    return context->GetAttr(attr, value);
  };
  OP_REQUIRES_OK(context, ReadLayout(traits_, sparse, handles, read, &layout_));
  OP_REQUIRES_OK(context, average_form_.ReadFrom(read));
  OP_REQUIRES_OK(context, context->GetAttr("T", &dtype_));
  OP_REQUIRES_OK(context, context->GetAttr("use_locking", &use_locking_));
  OP_REQUIRES_OK(context, context->GetAttr("check_only", &check_only_));
  OP_REQUIRES_OK(context, context->GetAttr("rounding_seeds", &rounding_seeds_));
  OP_REQUIRES_OK(context,
                 context->GetAttr("rounds_variables", &rounds_variables_));
  OP_REQUIRES_OK(context, CheckRoundingSeeds(layout_, rounding_seeds_));
  OP_REQUIRES_OK(context, context->GetAttr("update_norms", &update_norms_));
  const bool on_gpu = context->device_type() == tensorflow::DEVICE_GPU;
  OP_REQUIRES_OK(context, CheckUpdateNorms(update_norms_, on_gpu ? 0 : 1,
                                           on_gpu ? " on a GPU" : ""));
  try {
    isa_ = ChosenIsa();
  } catch (const std::runtime_error& error) {
    OP_REQUIRES(context, false, absl::InvalidArgumentError(error.what()));
  }
}

void StepOp::Compute(tensorflow::OpKernelContext* context) {
  try {
    HeldStep step;
    TakeStep(context, &step);
    if (check_only_ && update_norms_ > 0) {
      tensorflow::Tensor* squares;
      OP_REQUIRES_OK(context,
                     context->allocate_output(0, {layout_.count}, &squares));
      squares->vec<double>().setConstant(std::nan(""));
    }
    const bool has_history = layout_.history != OpLayout::kAbsent;
    if (has_history && !check_only_ && context->status().ok()) {
      EndHistories(context, &step);
    }
  } catch (const std::bad_alloc&) {
    context->CtxFailure(OutOfMemoryError());
  }
}

absl::Status StepOp::Begin(tensorflow::OpKernelContext* context,
                           Locking locking, HeldStep* step) const {
  LockedVariables* const variables = &step->variables;
  TF_RETURN_IF_ERROR(
      ReadNumbers(context, traits_, layout_, memory(), &step->numbers));
  if (memory() == Memory::kDevice && !rounding_seeds_.empty()) {
    return absl::InvalidArgumentError(
        "rounding_seeds must be empty on a GPU, whose kernels round to "
        "nearest. "
        "Received: seeds (stochastic_rounding).");
  }
  // 16-bit variables have float32 slots.
  const tensorflow::DataType slot_dtype = dtype_ == tensorflow::DT_DOUBLE
                                              ? tensorflow::DT_DOUBLE
                                              : tensorflow::DT_FLOAT;
  TF_RETURN_IF_ERROR(variables->Find(context, traits_, layout_));
  if (layout_.history != OpLayout::kAbsent) {
    TF_RETURN_IF_ERROR(BeginHistories(context, step));
  }
  TF_RETURN_IF_ERROR(variables->Acquire(
      context, dtype_, slot_dtype,
      /*may_be_packed=*/memory() == Memory::kHost,
      check_only_ ? Locking::kReadOnly : locking,
      [this, context](void* to, const void* from, size_t bytes) {
        return Copy(context, to, from, bytes);
      }));
  for (int i = 0; i < layout_.count; ++i) {
    TF_RETURN_IF_ERROR(CheckGradient(context, *variables->var(i), i));
  }
  return absl::OkStatus();
}

absl::Status StepOp::CheckGradient(tensorflow::OpKernelContext* context,
                                   const tensorflow::Tensor& var, int i) const {
  const tensorflow::Tensor& grad = context->input(layout_.grad + i);
  if (layout_.indices == OpLayout::kAbsent) {
    return CheckDenseGradient(var, grad, i);
  }
  const tensorflow::Tensor& indices = context->input(layout_.indices + i);
  TF_RETURN_IF_ERROR(CheckSparseGradient(var, grad, indices, i));
  if (!KeyFits(var.dim_size(0), indices.dim_size(0))) {
    return TooManyKeysError(i, var.dim_size(0), indices.dim_size(0));
  }
  return absl::OkStatus();
}

absl::Status StepOp::BeginHistories(tensorflow::OpKernelContext* context,
                                    HeldStep* step) const {
  TF_RETURN_IF_ERROR(
      step->histories.Lock(context, layout_.history, layout_.count));
  const auto ids = [&](int i) -> const tensorflow::Tensor& {
    return context->input(layout_.indices + i);
  };
  // Whether rows of a table are brought up to date here.
  std::vector<bool> catches_up(
      layout_.count, layout_.idle_rows == IdleRowsGet::kItLaterEventually);
  if (layout_.idle_rows == IdleRowsGet::kItLaterExactly) {
    for (int i = 0; i < layout_.count; ++i) {
      // Again when all is locked. Of a wrong gradient no row can be asked.
      const auto found = step->variables.AllOf(i);
      tensorflow::Var& var = *found[0];
      const tensorflow::tf_shared_lock lock(*var.mu());
      if (var.is_initialized) {
        TF_RETURN_IF_ERROR(CheckGradient(context, *var.tensor(), i));
      }
    }
    for (int i = 0; i < layout_.count; ++i) {
      bool behind;
      TF_RETURN_IF_ERROR(step->histories.at(i).Check(
          ids(i), context->input(layout_.grad + i), i, &behind));
      catches_up[i] = behind;
    }
  }
  if (check_only_) return absl::OkStatus();
  const IdleKind kind = {traits_.name, layout_.variant, StorageOf(dtype_),
                         layout_.average != OpLayout::kAbsent};
  for (int i = 0; i < layout_.count; ++i) {
    RowHistory& history = step->histories.at(i);
    if (!layout_.LeavesIdleRows()) {
      TF_RETURN_IF_ERROR(history.CatchUpAll(context));
      continue;
    }
    TF_RETURN_IF_ERROR(history.Bind(context, kind, step->numbers.hyper,
                                    step->variables.AllOf(i)));
    if (catches_up[i]) TF_RETURN_IF_ERROR(history.CatchUp(context, ids(i)));
  }
  return absl::OkStatus();
}

void StepOp::EndHistories(tensorflow::OpKernelContext* context,
                          HeldStep* step) const {
  const StepNumbers& numbers = step->numbers;
  IdleStep idle;
  idle.iterations = numbers.iterations;
  idle.hyper = numbers.hyper;
  idle.rounds_var = rounds_variables_;
  if (layout_.average != OpLayout::kAbsent) {
    idle.decays.average_kept = AveragingOf(numbers).Kept();
  }
  for (int i = 0; i < layout_.count; ++i) {
    RowHistory& history = step->histories.at(i);
    if (!layout_.LeavesIdleRows()) {
      history.AdvanceAll(numbers.iterations);
      continue;
    }
    idle.learning_rate = numbers.learning_rates.at(i);
    idle.decays.decay = numbers.decay(i);
    idle.rounding = RoundingAt(i, numbers);
    history.Advance(context, idle, context->input(layout_.indices + i),
                    step->variables.MemoryOf(i));
  }
}

absl::Status StepOp::Copy(tensorflow::OpKernelContext*, void* to,
                          const void* from, size_t bytes) const {
  return CopyOnHost(to, from, bytes);
}

}  // namespace tf_optim
