#include "cc/kernels/step_op.h"

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
  OP_REQUIRES_OK(context, ReadLayout(
                              traits_, sparse, handles,
                              [context](const std::string& attr, auto* value) {
                                return context->GetAttr(attr, value);
                              },
                              &layout_));
  OP_REQUIRES_OK(context, context->GetAttr("T", &dtype_));
  OP_REQUIRES_OK(context, context->GetAttr("use_locking", &use_locking_));
  OP_REQUIRES_OK(context, context->GetAttr("average_begins", &average_begins_));
  OP_REQUIRES_OK(context, context->GetAttr("check_only", &check_only_));
  OP_REQUIRES_OK(context, context->GetAttr("rounding_seeds", &rounding_seeds_));
  OP_REQUIRES_OK(context,
                 context->GetAttr("rounds_variables", &rounds_variables_));
  OP_REQUIRES_OK(context, CheckRoundingSeeds(layout_, rounding_seeds_));
  try {
    isa_ = ChosenIsa();
  } catch (const std::runtime_error& error) {
    OP_REQUIRES(context, false, absl::InvalidArgumentError(error.what()));
  }
}

void StepOp::Compute(tensorflow::OpKernelContext* context) {
  try {
    TakeStep(context);
  } catch (const std::bad_alloc&) {
    context->CtxFailure(OutOfMemoryError());
  }
}

absl::Status StepOp::Begin(tensorflow::OpKernelContext* context,
                           Locking locking, StepNumbers* numbers,
                           LockedVariables* variables) const {
  TF_RETURN_IF_ERROR(ReadNumbers(context, traits_, layout_, memory(), numbers));
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
  TF_RETURN_IF_ERROR(variables->Acquire(
      context, traits_, layout_, dtype_, slot_dtype,
      /*may_be_packed=*/memory() == Memory::kHost,
      check_only_ ? Locking::kReadOnly : locking,
      [this, context](void* to, const void* from, size_t bytes) {
        return Copy(context, to, from, bytes);
      }));
  for (int i = 0; i < layout_.count; ++i) {
    const tensorflow::Tensor& var = *variables->var(i);
    const tensorflow::Tensor& grad = context->input(layout_.grad + i);
    if (layout_.indices == OpLayout::kAbsent) {
      TF_RETURN_IF_ERROR(CheckDenseGradient(var, grad, i));
      continue;
    }
    const tensorflow::Tensor& indices = context->input(layout_.indices + i);
    TF_RETURN_IF_ERROR(CheckSparseGradient(var, grad, indices, i));
    if (!KeyFits(var.dim_size(0), indices.dim_size(0))) {
      return TooManyKeysError(i, var.dim_size(0), indices.dim_size(0));
    }
  }
  return absl::OkStatus();
}

absl::Status StepOp::Copy(tensorflow::OpKernelContext*, void* to,
                          const void* from, size_t bytes) const {
  return CopyOnHost(to, from, bytes);
}

}  // namespace tf_optim
