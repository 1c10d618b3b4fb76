#include "cc/xla/in_place_call.h"

#include <cstdint>
#include <utility>

#include "cc/xla/shape_of.h"

namespace tf_optim {
namespace {

// Row-major, as the drivers read and write.
xla::Shape RowMajorShapeOf(xla::XlaOp op) {
  const xla::Shape shape = ShapeOf(op);
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(shape.element_type(),
                                                       shape.dimensions());
}

}  // namespace

Streams CallInPlace(const std::string& target, const std::string& attributes,
                    const Streams& streams,
                    const std::vector<xla::XlaOp>& others) {
  std::vector<xla::XlaOp> operands;
  for (const auto& of_variable : streams) {
    operands.insert(operands.end(), of_variable.begin(), of_variable.end());
  }
  const size_t written = operands.size();
  operands.insert(operands.end(), others.begin(), others.end());
  std::vector<xla::Shape> shapes;
  for (xla::XlaOp operand : operands)
    shapes.push_back(RowMajorShapeOf(operand));
  const xla::Shape results = xla::ShapeUtil::MakeTupleShape(
      std::vector<xla::Shape>(shapes.begin(), shapes.begin() + written));
  std::vector<std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>>
      same_memory;
  for (int64_t i = 0; i < static_cast<int64_t>(written); ++i) {
    same_memory.emplace_back(xla::ShapeIndex({i}),
                             std::make_pair(i, xla::ShapeIndex()));
  }
  const xla::XlaOp call = xla::CustomCallWithLayout(
      others.back().builder(), target, operands, results, shapes, attributes,
      /*has_side_effect=*/false, same_memory, /*literal=*/nullptr,
      xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);

  Streams after = streams;
  int64_t i = 0;
  for (auto& of_variable : after) {
    for (xla::XlaOp& stream : of_variable) {
      stream = xla::GetTupleElement(call, i++);
    }
  }
  return after;
}

}  // namespace tf_optim
