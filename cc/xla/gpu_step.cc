#include "cc/xla/gpu_step.h"

#include <algorithm>
#include <atomic>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "cc/xla/gpu_call.h"
#include "cc/xla/register.h"
#include "cc/xla/xla_apply_op.h"

namespace tf_optim {
namespace {

// XLA compiles in the same time with 4 to 64 in a call (docs/xla.md), and each
// call launches kernels of its own.
constexpr size_t kVariablesPerGpuCall = 64;

}  // namespace

bool CallsGpuKernels(tensorflow::XlaOpKernelContext* context) {
  const GpuCallKernels kernels = CurrentGpuKernels();
  return kernels.find != nullptr && !WantsPortableStep() && XlaCanCall() &&
         DeviceTypeOf(context) ==
             (kernels.emulated ? kCpuJitDevice : kGpuJitDevice);
}

Streams CallGpuSteps(const GpuStepTarget& target, const GpuStepInputs& inputs) {
  // What DecodeGpuCall of gpu_call.cc reads.
  const std::string attributes =
      absl::StrCat("{lazy = ", target.lazy ? 1 : 0, " : i64, rule = \"",
                   target.rule, "\", slots = ", target.slots,
                   " : i64, sparse = ", inputs.ids.empty() ? 0 : 1,
                   " : i64, storage = ", static_cast<int>(target.storage),
                   " : i64, variant = ", target.variant, " : i64}");
  const xla::XlaOp numbers = xla::ConcatInDim(inputs.iterations.builder(),
                                              inputs.numbers, /*dimension=*/0);
  Streams after;
  for (size_t begin = 0; begin < inputs.streams.size();
       begin += kVariablesPerGpuCall) {
    const size_t end =
        std::min(inputs.streams.size(), begin + kVariablesPerGpuCall);
    std::vector<xla::XlaOp> others;
    for (const auto* list : {&inputs.gradients, &inputs.ids}) {
      if (list->empty()) continue;
      others.insert(others.end(), list->begin() + begin, list->begin() + end);
    }
    others.push_back(inputs.iterations);
    for (xla::XlaOp list : {inputs.gradient_scale, inputs.weight_decay}) {
      others.push_back(xla::SliceInDim(list, begin, end, /*stride=*/1,
                                       /*dimno=*/0));
    }
    others.push_back(numbers);
    Streams some = CallInPlace(
        kGpuCallName, attributes,
        Streams(inputs.streams.begin() + begin, inputs.streams.begin() + end),
        others);
    std::move(some.begin(), some.end(), std::back_inserter(after));
  }
  return after;
}

GpuStepInputs XlaStepOp::GpuInputs(
    tensorflow::XlaOpKernelContext* context) const {
  const auto number = [&](int input) {
    return xla::Reshape(Number(context, input).op(), {1});
  };
  // An empty list stands for one value for all variables.
  const auto list = [&](int input, double value) {
    const xla::XlaOp op = Number(context, input).op();
    if (!IsEmpty(context, input)) return op;
    return xla::Broadcast(xla::ConstantR0<double>(op.builder(), value),
                          {layout_.count});
  };
  GpuStepInputs inputs;
  for (int i = 0; i < layout_.count; ++i) {
    inputs.gradients.push_back(Gradient(context, i));
    if (layout_.indices != OpLayout::kAbsent) {
      inputs.ids.push_back(Ids(context, i));
    }
  }
  inputs.iterations = xla::Reshape(context->Input(layout_.iterations), {1});
  inputs.numbers = {number(layout_.learning_rate), number(layout_.clip_value)};
  for (size_t i = 0; i < traits_.hyper.size(); ++i) {
    inputs.numbers.push_back(number(layout_.hyper + static_cast<int>(i)));
  }
  inputs.gradient_scale = list(layout_.gradient_scale, 1);
  inputs.weight_decay = list(layout_.weight_decay, 0);
  return inputs;
}

}  // namespace tf_optim
