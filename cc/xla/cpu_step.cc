#include "cc/xla/cpu_step.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "cc/xla/in_place_call.h"

namespace tf_optim {

namespace {

// XLA's time to compile grows with the product of a call's operands and
// results: with all variables in one call 600 took 16 s, and 1,500 227 s.
constexpr size_t kVariablesPerCall = 16;

// The streams of variables [begin, end) after the step. `numbers` are those of
// these variables.
Streams CallCpuStep(const std::string& target, const CpuStepInputs& inputs,
                    size_t begin, size_t end, xla::XlaOp numbers) {
  std::vector<xla::XlaOp> operands;
  for (const auto* list : {&inputs.gradients, &inputs.ids}) {
    if (list->empty()) continue;
    operands.insert(operands.end(), list->begin() + begin, list->begin() + end);
  }
  operands.insert(operands.end(), inputs.averaging.begin(),
                  inputs.averaging.end());
  std::vector<int64_t> rounding = {inputs.rounds_variables};
  if (!inputs.rounding_seeds.empty()) {
    rounding.insert(rounding.end(), inputs.rounding_seeds.begin() + begin,
                    inputs.rounding_seeds.begin() + end);
  }
  xla::XlaBuilder* const builder = numbers.builder();
  operands.push_back(xla::ConcatInDim(
      builder, {inputs.iterations, xla::ConstantR1<int64_t>(builder, rounding)},
      /*dimension=*/0));
  operands.push_back(numbers);

  return CallInPlace(
      target, /*attributes=*/"",
      Streams(inputs.streams.begin() + begin, inputs.streams.begin() + end),
      operands);
}

}  // namespace

Streams CallCpuSteps(const std::string& target, const CpuStepInputs& inputs) {
  xla::XlaBuilder* const builder = inputs.clips_and_decays[0].builder();
  const xla::XlaOp coefficients =
      xla::ConcatInDim(builder, inputs.coefficients, /*dimension=*/0);
  Streams after;
  for (size_t begin = 0; begin < inputs.streams.size();
       begin += kVariablesPerCall) {
    const size_t end =
        std::min(inputs.streams.size(), begin + kVariablesPerCall);
    std::vector<xla::XlaOp> numbers = {coefficients};
    for (xla::XlaOp numbers_of_all : inputs.clips_and_decays) {
      numbers.push_back(xla::SliceInDim(numbers_of_all, begin, end,
                                        /*stride=*/1,
                                        /*dimno=*/0));
    }
    Streams some =
        CallCpuStep(target, inputs, begin, end,
                    xla::ConcatInDim(builder, numbers, /*dimension=*/0));
    std::move(some.begin(), some.end(), std::back_inserter(after));
  }
  return after;
}

}  // namespace tf_optim
