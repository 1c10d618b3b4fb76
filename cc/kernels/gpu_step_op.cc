#include "cc/kernels/gpu_step_op.h"

#include <string>
#include <utility>

#include "cc/cuda/memory.h"
#include "cc/drivers/sort_ids.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "xla/stream_executor/stream.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

// The cudaStream_t of the op's device.
void* StreamOf(OpKernelContext* context) {
  return context->op_device_context()
      ->stream()
      ->platform_specific_handle()
      .stream;
}

absl::Status StatusOf(const GpuStatus& status) {
  switch (status.code) {
    case GpuStatus::kOk:
      return absl::OkStatus();
    case GpuStatus::kNoMemory:
      return absl::ResourceExhaustedError(status.message);
    case GpuStatus::kUnsupported:
      return absl::FailedPreconditionError(status.message);
    default:
      return absl::InternalError(status.message);
  }
}

// The error of an index that a step before this one skipped, once.
absl::Status EarlierError(const OwnedReport& owned) {
  BadIndexReport* const report = owned.report;
  // The GPU writes `found` last, while this may run.
  if (__atomic_load_n(&report->found, __ATOMIC_ACQUIRE) != owned.generation) {
    return absl::OkStatus();
  }
  const absl::Status error = SkippedIndexError(report->item, report->position,
                                               report->rows, report->received);
  __atomic_store_n(&report->found, 0, __ATOMIC_RELEASE);
  return error;
}

}  // namespace

GpuStepOp::GpuStepOp(tensorflow::OpKernelConstruction* context,
                     OptimizerTraits traits, bool sparse, Find find)
    : StepOp(context, std::move(traits), sparse), is_sparse_(sparse) {
  kernels_ = find(layout().variant, StorageOf(dtype()));
  OP_REQUIRES(context, layout().average == OpLayout::kAbsent,
              absl::UnimplementedError(
                  "average must be empty on a GPU. Received: variables."));
  OP_REQUIRES_OK(context, CheckNoHistory(layout(), "on a GPU"));
  if (!sparse) return;
  tensorflow::DataType index_type;
  OP_REQUIRES_OK(context, context->GetAttr("Tindices", &index_type));
  sparse_.lazy = layout().IsLazy();
  sparse_.wide_indices = index_type == tensorflow::DT_INT64;
}

GpuStepOp::~GpuStepOp() {
  for (const auto& [variable, report] : reports_) {
    DeleteBadIndexReport(report.owned);
  }
}

absl::Status GpuStepOp::Copy(OpKernelContext* context, void* to,
                             const void* from, size_t bytes) const {
  return StatusOf(
      CopyOnGpu(to, from, static_cast<int64_t>(bytes), StreamOf(context)));
}

absl::Status GpuStepOp::ReportOf(OpKernelContext* context,
                                 OwnedReport* report) {
  tensorflow::core::RefCountPtr<tensorflow::Var> variable;
  TF_RETURN_IF_ERROR(tensorflow::LookupResource(
      context, tensorflow::HandleFromInput(context, layout().var), &variable));
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = reports_.find(variable.get());
  if (found != reports_.end() &&
      found->second.variable.GetNewRef() == variable) {
    *report = found->second.owned;
    return absl::OkStatus();
  }
  for (auto i = reports_.begin(); i != reports_.end();) {
    if (i->second.variable.GetNewRef() == nullptr ||
        i->first == variable.get()) {
      DeleteBadIndexReport(i->second.owned);
      i = reports_.erase(i);
    } else {
      ++i;
    }
  }
  TF_RETURN_IF_ERROR(StatusOf(NewBadIndexReport(report)));
  const tensorflow::Var* const key = variable.get();
  reports_.emplace(
      key,
      VariableReport{tensorflow::core::WeakPtr<tensorflow::Var>(variable.get()),
                     *report});
  return absl::OkStatus();
}

GpuItem GpuStepOp::ItemAt(OpKernelContext* context, int i,
                          LockedVariables* variables) const {
  const Tensor& var = *variables->var(i);
  GpuItem item;
  item.var = var.data();
  item.grad = context->input(layout().grad + i).data();
  item.size = var.NumElements();
  if (var.dims() > 0) {
    item.rows = var.dim_size(0);
    item.width = item.rows > 0 ? item.size / item.rows : 0;
  }
  for (size_t s = 0; s < traits().slots.size(); ++s) {
    const Tensor* slot = variables->slot(s, i);
    if (slot != nullptr) item.slots[s] = slot->data();
  }
  if (is_sparse_) {
    const Tensor& indices = context->input(layout().indices + i);
    item.indices = indices.data();
    item.count = indices.NumElements();
  }
  return item;
}

GpuStep GpuStepOp::StepOf(OpKernelContext* context,
                          const StepNumbers& numbers) const {
  const auto number = [&](int input) {
    return static_cast<const double*>(context->input(input).data());
  };
  const Tensor& learning_rate = context->input(layout().learning_rate);
  GpuStep step;
  step.learning_rate = learning_rate.data();
  step.learning_rate_is_double = learning_rate.dtype() == tensorflow::DT_DOUBLE;
  step.iterations =
      static_cast<const int64_t*>(context->input(layout().iterations).data());
  for (size_t i = 0; i < traits().hyper.size(); ++i) {
    step.hyper[i] = number(layout().hyper + static_cast<int>(i));
  }
  step.clip_value = number(layout().clip_value);
  step.gradient_scale = numbers.gradient_scale;
  step.weight_decay = numbers.weight_decay;
  return step;
}

void GpuStepOp::TakeStep(OpKernelContext* context, HeldStep* taken) {
  OP_REQUIRES(context, kernels_ != nullptr,
              NoSuchVariantError(traits(), layout()));
  OP_REQUIRES_OK(context, StatusOf(CheckThisGpu()));
  OwnedReport report;
  if (is_sparse_) {
    OP_REQUIRES_OK(context, ReportOf(context, &report));
    OP_REQUIRES_OK(context, EarlierError(report));
  }
  OP_REQUIRES_OK(
      context,
      Begin(context, is_sparse_ ? shared_locking() : Locking::kExclusive,
            taken));
  std::vector<GpuItem> items;
  for (int i = 0; i < layout().count; ++i) {
    items.push_back(ItemAt(context, i, &taken->variables));
    OP_REQUIRES(context, items.back().count <= kMaxGpuIndices,
                TooManyIndicesError(i, kMaxGpuIndices, items.back().count));
    // A row more than the table has: that of indices outside of it.
    OP_REQUIRES(context, KeyFits(items.back().rows + 1, items.back().count),
                TooManyKeysError(i, items.back().rows, items.back().count));
  }

  if (check_only()) return;  // the indices are not on the host

  const GpuStep step = StepOf(context, taken->numbers);
  // TensorFlow gives freed memory only to work that comes later on the stream.
  Tensor workspace;
  GpuContext gpu;
  gpu.stream = StreamOf(context);
  gpu.report = report.report;
  gpu.generation = report.generation;
  gpu.allocate = [&](int64_t bytes, void** memory) -> GpuStatus {
    const absl::Status status = context->allocate_temp(
        tensorflow::DT_INT8, tensorflow::TensorShape({bytes}), &workspace);
    if (!status.ok()) {
      return {GpuStatus::kNoMemory, std::string(status.message())};
    }
    *memory = workspace.data();
    return {};
  };
  OP_REQUIRES_OK(
      context, StatusOf(is_sparse_ ? kernels_->sparse(items, sparse_, step, gpu)
                                   : kernels_->dense(items, step, gpu)));
}

}  // namespace tf_optim
