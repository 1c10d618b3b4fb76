#include "cc/kernels/step_op.h"

#include <stdexcept>
#include <utility>

#include "absl/status/status.h"
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace tf_optim {

ParallelFor DeviceThreads(tensorflow::OpKernelContext* context) {
  auto* pool = context->device()->tensorflow_cpu_worker_threads()->workers;
  return [pool](int64_t total, double cost,
                const std::function<void(int64_t, int64_t)>& body) {
    if (total <= 0) return;
    constexpr double kCyclesPerNanosecond = 3;
    pool->ParallelFor(
        total, static_cast<int64_t>(cost * kCyclesPerNanosecond) + 1, body);
  };
}

StepOp::StepOp(tensorflow::OpKernelConstruction* context,
               OptimizerTraits traits, bool sparse)
    : OpKernel(context), traits_(std::move(traits)) {
  OP_REQUIRES_OK(context, ReadLayout<absl::Status>(
                              traits_, sparse,
                              [context](const std::string& attr, int* n) {
                                return context->GetAttr(attr, n);
                              },
                              &layout_));
  for (size_t i = 0; i < traits_.slots.size(); ++i) {
    if (!traits_.IsOptional(i)) continue;
    int count;
    OP_REQUIRES_OK(context,
                   context->GetAttr(SlotCountAttr(traits_.slots[i]), &count));
    OP_REQUIRES(context, count == 0 || count == layout_.count,
                absl::InvalidArgumentError(
                    traits_.slots[i] + " must have as many variables as var (" +
                    std::to_string(layout_.count) +
                    ") or none. Received: " + std::to_string(count) + "."));
  }
  OP_REQUIRES_OK(context, context->GetAttr("use_locking", &use_locking_));
  try {
    isa_ = ChosenIsa();
  } catch (const std::runtime_error& error) {
    OP_REQUIRES(context, false, absl::InvalidArgumentError(error.what()));
  }
}

}  // namespace tf_optim
