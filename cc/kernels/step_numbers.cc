#include "cc/kernels/step_numbers.h"

#include <limits>
#include <string>
#include <vector>

#include "cc/kernels/messages.h"

namespace tf_optim {

using ::absl::InvalidArgumentError;
using ::absl::OkStatus;
using ::absl::Status;
using ::absl::StrCat;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

namespace {

// Of a float32 or float64 tensor.
std::vector<double> ValuesOf(const Tensor& tensor) {
  const auto copy = [](const auto& values) {
    return std::vector<double>(values.data(), values.data() + values.size());
  };
  return tensor.dtype() == tensorflow::DT_FLOAT ? copy(tensor.flat<float>())
                                                : copy(tensor.flat<double>());
}

Status CheckRange(const std::string& name, const Range& range, double value) {
  if (range.Has(value)) return OkStatus();
  return InvalidArgumentError(RangeError(name, range, value));
}

// A vector of one value per variable, or of none.
Status ReadPerVariable(const std::string& name, const Tensor& tensor, int count,
                       const double** values) {
  *values = nullptr;
  if (tensor.dims() != 1 ||
      (tensor.dim_size(0) != 0 && tensor.dim_size(0) != count)) {
    return WrongShape(name, StrCat("[", count, "] or [0]"), tensor);
  }
  if (tensor.dim_size(0) > 0) *values = tensor.flat<double>().data();
  return OkStatus();
}

}  // namespace

Status ReadNumbers(OpKernelContext* context, const OptimizerTraits& traits,
                   const OpLayout& layout, Memory memory,
                   StepNumbers* numbers) {
  const auto check_scalar = [&](const std::string& name, int input) {
    const Tensor& tensor = context->input(input);
    return tensor.dims() == 0 ? OkStatus() : WrongShape(name, "[]", tensor);
  };
  const Tensor& rate = context->input(layout.learning_rate);
  const bool each_has_one = memory == Memory::kHost && rate.dims() == 1 &&
                            rate.dim_size(0) == layout.count;
  if (rate.dims() != 0 && !each_has_one) {
    return WrongShape(
        "learning_rate",
        memory == Memory::kDevice ? "[]" : StrCat("[] or [", layout.count, "]"),
        rate);
  }
  TF_RETURN_IF_ERROR(check_scalar("iterations", layout.iterations));
  for (size_t i = 0; i < traits.hyper.size(); ++i) {
    TF_RETURN_IF_ERROR(check_scalar(traits.hyper[i], layout.hyper + i));
  }
  TF_RETURN_IF_ERROR(check_scalar("clip_value", layout.clip_value));
  TF_RETURN_IF_ERROR(check_scalar("average_momentum", layout.average_momentum));
  TF_RETURN_IF_ERROR(check_scalar("average_updates", layout.average_updates));
  TF_RETURN_IF_ERROR(ReadPerVariable("gradient_scale",
                                     context->input(layout.gradient_scale),
                                     layout.count, &numbers->gradient_scale));
  TF_RETURN_IF_ERROR(ReadPerVariable("weight_decay",
                                     context->input(layout.weight_decay),
                                     layout.count, &numbers->weight_decay));
  if (memory == Memory::kDevice) return OkStatus();

  const auto value = [&](int input) {
    return context->input(input).scalar<double>()();
  };
  // Any learning rate: one that is NaN shows in the variables, as in stock.
  numbers->learning_rates = ForVariables<double>(ValuesOf(rate));
  numbers->iterations = context->input(layout.iterations).scalar<int64_t>()();
  if (numbers->iterations < 0) {
    return InvalidArgumentError(StrCat(
        "iterations must be >= 0. Received: ", numbers->iterations, "."));
  }
  for (size_t i = 0; i < traits.hyper.size(); ++i) {
    numbers->hyper.push_back(value(layout.hyper + i));
    TF_RETURN_IF_ERROR(
        CheckRange(traits.hyper[i], traits.ranges[i], numbers->hyper[i]));
  }
  numbers->clip_value = value(layout.clip_value);
  if (!(numbers->clip_value >= 0)) {
    return InvalidArgumentError(StrCat(
        "clip_value must be >= 0. Received: ", numbers->clip_value, "."));
  }
  numbers->average_momentum = value(layout.average_momentum);
  if (!(numbers->average_momentum >= 0 && numbers->average_momentum <= 1)) {
    return InvalidArgumentError(
        StrCat("average_momentum must be in [0, 1]. Received: ",
               numbers->average_momentum, "."));
  }
  numbers->average_updates =
      context->input(layout.average_updates).scalar<int64_t>()();
  if (numbers->average_updates < 0 ||
      numbers->average_updates >= std::numeric_limits<int32_t>::max()) {
    return InvalidArgumentError(
        StrCat("average_updates must be in [0, 2^31 - 1). Received: ",
               numbers->average_updates, "."));
  }
  for (int i = 0; numbers->weight_decay != nullptr && i < layout.count; ++i) {
    TF_RETURN_IF_ERROR(CheckRange(At("weight_decay", i), kNotNegative,
                                  numbers->weight_decay[i]));
  }
  return OkStatus();
}

}  // namespace tf_optim
