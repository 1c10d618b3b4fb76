#include "cc/kernels/step_op.h"

#include <stdexcept>
#include <utility>

#include "absl/status/status.h"

namespace tf_optim {

StepOp::StepOp(tensorflow::OpKernelConstruction* context,
               OptimizerTraits traits, bool sparse)
    : OpKernel(context), traits_(std::move(traits)) {
  OP_REQUIRES_OK(context, ReadLayout<absl::Status>(
                              traits_, sparse,
                              [context](const std::string& attr, auto* value) {
                                return context->GetAttr(attr, value);
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
