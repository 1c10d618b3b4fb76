// The moving averages that a step under XLA brings along.
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/xla/xla_apply_op.h"

namespace tf_optim {

using ::tensorflow::TensorShape;
using ::tensorflow::XlaOpKernelContext;

absl::Status XlaStepOp::ReadAverage(XlaOpKernelContext* context, int i,
                                    const TensorShape& variable,
                                    std::vector<xla::XlaOp>* streams) const {
  TensorShape shape;
  TF_RETURN_IF_ERROR(context->ReadVariableInput(
      layout_.average + i, dtype_, &shape, &streams->emplace_back()));
  if (shape != variable) {
    return absl::InvalidArgumentError(absl::StrCat(
        "average[", i, "] must have shape ", variable.DebugString(),
        ". Received: shape ", shape.DebugString(), "."));
  }
  if (layout_.average_rows == OpLayout::kAbsent) return absl::OkStatus();
  TF_RETURN_IF_ERROR(context->ReadVariableInput(layout_.average_rows + i,
                                                tensorflow::DT_INT32, &shape,
                                                &streams->emplace_back()));
  if (shape == TensorShape({variable.dim_size(0)})) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "average_rows[", i, "] must have shape [", variable.dim_size(0),
      "]. Received: shape ", shape.DebugString(), "."));
}

absl::Status XlaStepOp::WriteAverage(XlaOpKernelContext* context, int i,
                                     std::vector<xla::XlaOp>* streams) const {
  if (!averages()) return absl::OkStatus();
  if (layout_.average_rows != OpLayout::kAbsent) {
    TF_RETURN_IF_ERROR(context->AssignVariable(
        layout_.average_rows + i, tensorflow::DT_INT32, streams->back()));
    streams->pop_back();
  }
  TF_RETURN_IF_ERROR(
      context->AssignVariable(layout_.average + i, dtype_, streams->back()));
  streams->pop_back();
  return absl::OkStatus();
}

xla::XlaOp XlaStepOp::AveragingOf(XlaOpKernelContext* context) const {
  const auto constant = [&](auto x) {
    return XlaValue(
        xla::ConstantR0<double>(context->builder(), static_cast<double>(x)));
  };
  const XlaValue numbers[] = {Number(context, layout_.average_momentum),
                              Number(context, layout_.average_updates),
                              constant(average_form_.kind),
                              constant(average_form_.begins)};
  std::vector<xla::XlaOp> ones;
  for (const XlaValue& x : numbers) ones.push_back(xla::Reshape(x.op(), {1}));
  return xla::ConcatInDim(context->builder(), ones, 0);
}

absl::Status XlaStepOp::UpdateAverage(XlaOpKernelContext* context, int i,
                                      xla::XlaOp before,
                                      xla::XlaOp* var) const {
  if (layout_.average == OpLayout::kAbsent) return absl::OkStatus();
  TensorShape shape;
  xla::XlaOp op;
  TF_RETURN_IF_ERROR(
      context->ReadVariableInput(layout_.average + i, dtype_, &shape, &op));
  XlaValue average = ToComputeType(op);
  const auto move = [&](XlaValue kept, xla::XlaOp variable) {
    const XlaValue taken = XlaValue(1) - kept;
    average = IfPositive(
        taken, kept * average + taken * ToComputeType(variable), average);
  };
  const xla::XlaOp updates = Number(context, layout_.average_updates).op();
  const xla::XlaOp momentum = Number(context, layout_.average_momentum).op();
  const xla::XlaOp begins =
      xla::ScalarLike(updates, static_cast<double>(average_form_.begins));
  const bool is_mean = average_form_.kind == AverageKind::kMean;
  const bool is_slow = average_form_.kind == AverageKind::kSlow;
  if (layout_.average_rows != OpLayout::kAbsent) {
    TF_RETURN_IF_ERROR(context->ReadVariableInput(
        layout_.average_rows + i, tensorflow::DT_INT32, &shape, &op));
    const xla::XlaOp seen = xla::ConvertElementType(op, xla::F64);
    xla::XlaOp kept = is_mean ? xla::Div(seen, updates)
                              : xla::Pow(momentum, xla::Sub(updates, seen));
    kept = xla::Select(xla::Lt(seen, xla::Min(begins, updates)),
                       xla::ZerosLike(kept), kept);
    kept = xla::Select(xla::Ge(seen, updates), xla::FullLike(kept, 1), kept);
    if (!is_slow) {
      move(XlaValue(ToElements(ToComputeType(kept).op(), average)), before);
    }
    xla::XlaOp done = updates + xla::ScalarLike(updates, 1);
    if (is_mean) {
      done = xla::Select(xla::Ge(momentum, xla::ScalarLike(momentum, 1)),
                         updates, done);
    }
    done = xla::ConvertElementType(done, xla::S32);
    TF_RETURN_IF_ERROR(
        context->AssignVariable(layout_.average_rows + i, tensorflow::DT_INT32,
                                xla::Broadcast(done, {shape.dim_size(0)})));
  }
  move(ToComputeType(xla::Select(xla::Lt(updates, begins),
                                 xla::ZerosLike(momentum), momentum)),
       *var);
  op = ToStorageType(average);
  if (is_slow) {
    const xla::XlaOp is_update =
        xla::Lt(momentum, xla::ScalarLike(momentum, 1));
    *var = xla::Select(is_update, op, *var);
  }
  return context->AssignVariable(layout_.average + i, dtype_, op);
}

}  // namespace tf_optim
