#include "cc/xla/cpu_step.h"

#include <cstdint>

namespace tf_optim {

namespace {

// Row-major, as the drivers read and write.
xla::Shape ShapeOf(xla::XlaOp op) {
  const xla::Shape shape = op.builder()->GetShape(op).value();
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(shape.element_type(),
                                                       shape.dimensions());
}

}  // namespace

std::vector<std::vector<xla::XlaOp>> CallCpuStep(const std::string& target,
                                                 const CpuStepInputs& inputs) {
  std::vector<xla::XlaOp> operands;
  const auto append = [&](const std::vector<xla::XlaOp>& more) {
    operands.insert(operands.end(), more.begin(), more.end());
  };
  for (const auto& of_variable : inputs.streams) append(of_variable);
  const size_t streams = operands.size();
  append(inputs.gradients);
  append(inputs.ids);
  xla::XlaBuilder* const builder = operands[0].builder();
  append({xla::ConcatInDim(builder, inputs.numbers, /*dimension=*/0)});

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
      builder, target, operands, results, shapes, /*opaque=*/"",
      /*has_side_effect=*/false, same_memory, /*literal=*/nullptr,
      xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);

  std::vector<std::vector<xla::XlaOp>> after = inputs.streams;
  int64_t i = 0;
  for (auto& of_variable : after) {
    for (xla::XlaOp& stream : of_variable) {
      stream = xla::GetTupleElement(call, i++);
    }
  }
  return after;
}

}  // namespace tf_optim
