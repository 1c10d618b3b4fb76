#include "cc/xla/cpu_step.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace tf_optim {

namespace {

// Row-major, as the drivers read and write.
xla::Shape ShapeOf(xla::XlaOp op) {
  const xla::Shape shape = op.builder()->GetShape(op).value();
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(shape.element_type(),
                                                       shape.dimensions());
}

// XLA's time to compile grows with the product of a call's operands and
// results: with all variables in one call 600 took 16 s, and 1,500 227 s.
constexpr size_t kVariablesPerCall = 16;

using Streams = std::vector<std::vector<xla::XlaOp>>;

// The streams of variables [begin, end) after the step. `numbers` are those of
// these variables.
Streams CallCpuStep(const std::string& target, const CpuStepInputs& inputs,
                    size_t begin, size_t end, xla::XlaOp numbers) {
  std::vector<xla::XlaOp> operands;
  for (size_t i = begin; i < end; ++i) {
    operands.insert(operands.end(), inputs.streams[i].begin(),
                    inputs.streams[i].end());
  }
  const size_t streams = operands.size();
  for (const auto* list : {&inputs.gradients, &inputs.ids}) {
    if (list->empty()) continue;
    operands.insert(operands.end(), list->begin() + begin, list->begin() + end);
  }
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

  std::vector<xla::Shape> shapes;
  for (xla::XlaOp operand : operands) shapes.push_back(ShapeOf(operand));
  const xla::Shape results = xla::ShapeUtil::MakeTupleShape(
      std::vector<xla::Shape>(shapes.begin(), shapes.begin() + streams));
  std::vector<std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>>
      same_memory;
  for (int64_t i = 0; i < static_cast<int64_t>(streams); ++i) {
    same_memory.emplace_back(xla::ShapeIndex({i}),
                             std::make_pair(i, xla::ShapeIndex()));
  }
  const xla::XlaOp call = xla::CustomCallWithLayout(
      numbers.builder(), target, operands, results, shapes, /*opaque=*/"",
      /*has_side_effect=*/false, same_memory, /*literal=*/nullptr,
      xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);

  Streams after(inputs.streams.begin() + begin, inputs.streams.begin() + end);
  int64_t i = 0;
  for (auto& of_variable : after) {
    for (xla::XlaOp& stream : of_variable) {
      stream = xla::GetTupleElement(call, i++);
    }
  }
  return after;
}

}  // namespace

Streams CallCpuSteps(const std::string& target, const CpuStepInputs& inputs) {
  xla::XlaBuilder* const builder = inputs.tails[0].builder();
  const xla::XlaOp coefficients =
      xla::ConcatInDim(builder, inputs.coefficients, /*dimension=*/0);
  Streams after;
  for (size_t begin = 0; begin < inputs.streams.size();
       begin += kVariablesPerCall) {
    const size_t end =
        std::min(inputs.streams.size(), begin + kVariablesPerCall);
    std::vector<xla::XlaOp> numbers = {coefficients};
    for (xla::XlaOp tail : inputs.tails) {
      numbers.push_back(xla::SliceInDim(tail, begin, end, /*stride=*/1,
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
