#include "cc/xla/xla_apply_op.h"

#include <cmath>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/ops/packed_layout.h"
#include "cc/rules/all_rules.h"
#include "cc/xla/register.h"
#include "cc/xla/shape_of.h"
#include "tensorflow/compiler/tf2xla/shape_util.h"
#include "tensorflow/compiler/tf2xla/xla_compiler.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"

namespace tf_optim {

using ::tensorflow::DataType;
using ::tensorflow::TensorShape;
using ::tensorflow::XlaOpKernelContext;

namespace {

xla::PrimitiveType XlaType(DataType dtype) {
  xla::PrimitiveType type = xla::PRIMITIVE_TYPE_INVALID;
  TF_CHECK_OK(tensorflow::DataTypeToPrimitiveType(dtype, &type));
  return type;
}

}  // namespace

XlaStepOp::XlaStepOp(tensorflow::OpKernelConstruction* context,
                     OptimizerTraits traits, bool sparse)
    : XlaOpKernel(context), traits_(std::move(traits)) {
  const auto read = [context](const std::string& attr, auto* value) {
    return context->GetAttr(attr, value);
  };
  OP_REQUIRES_OK(
      context, ReadLayout(traits_, sparse, Handles::kSeparate, read, &layout_));
  OP_REQUIRES_OK(context, average_form_.ReadFrom(read));
  OP_REQUIRES_OK(context, context->GetAttr("T", &dtype_));
  OP_REQUIRES_OK(context, context->GetAttr("check_only", &check_only_));
  OP_REQUIRES_OK(context, context->GetAttr("rounding_seeds", &rounding_seeds_));
  OP_REQUIRES_OK(context,
                 context->GetAttr("rounds_variables", &rounds_variables_));
  OP_REQUIRES_OK(context, CheckRoundingSeeds(layout_, rounding_seeds_));
  int update_norms;
  OP_REQUIRES_OK(context, context->GetAttr("update_norms", &update_norms));
  OP_REQUIRES_OK(context, CheckUpdateNorms(update_norms, 0, " under XLA"));
  slot_dtype_ = dtype_ == tensorflow::DT_DOUBLE ? tensorflow::DT_DOUBLE
                                                : tensorflow::DT_FLOAT;
}

XlaValue XlaStepOp::Number(XlaOpKernelContext* context, int input) const {
  return XlaValue(xla::ConvertElementType(context->Input(input), xla::F64));
}

XlaValue XlaStepOp::ToComputeType(xla::XlaOp op) const {
  return XlaValue(xla::ConvertElementType(op, XlaType(slot_dtype_)));
}

xla::XlaOp XlaStepOp::ToStorageType(XlaValue value) const {
  return xla::ConvertElementType(value.op(), XlaType(dtype_));
}

absl::Status XlaStepOp::InputShape(XlaOpKernelContext* context, int input,
                                   TensorShape* shape) const {
  TF_ASSIGN_OR_RETURN(const xla::Shape xla_shape,
                      context->InputXlaShape(input));
  return tensorflow::XLAShapeToTensorShape(xla_shape, shape);
}

bool XlaStepOp::IsEmpty(XlaOpKernelContext* context, int input) const {
  return context->InputShape(input).num_elements() == 0;
}

absl::Status XlaStepOp::CheckShapes(XlaOpKernelContext* context, int i,
                                    const TensorShape& variable) const {
  TensorShape gradient, expected = variable;
  TF_RETURN_IF_ERROR(InputShape(context, layout_.grad + i, &gradient));
  if (layout_.indices != OpLayout::kAbsent) {
    TensorShape indices;
    TF_RETURN_IF_ERROR(InputShape(context, layout_.indices + i, &indices));
    if (variable.dims() < 1 || indices.dims() != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "indices[", i, "] must be a vector, and var[", i,
          "] must have rows. Received: shapes ", indices.DebugString(), " and ",
          variable.DebugString(), "."));
    }
    expected.set_dim(0, indices.dim_size(0));
  }
  if (gradient != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("grad[", i, "] must have shape ", expected.DebugString(),
                     ". Received: ", gradient.DebugString(), "."));
  }
  return absl::OkStatus();
}

absl::Status XlaStepOp::CheckNumbers(XlaOpKernelContext* context) const {
  const TensorShape rate = context->InputShape(layout_.learning_rate);
  if (rate.dims() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("learning_rate must be a scalar under XLA. Received: ",
                     rate.DebugString(), "."));
  }
  for (int input : {layout_.gradient_scale, layout_.weight_decay}) {
    const TensorShape shape = context->InputShape(input);
    if (shape.num_elements() != 0 && shape != TensorShape({layout_.count})) {
      return absl::InvalidArgumentError(absl::StrCat(
          "gradient_scale and weight_decay must be empty or have shape [",
          layout_.count, "]. Received: ", shape.DebugString(), "."));
    }
  }
  double value;
  for (size_t i = 0; i < traits_.hyper.size(); ++i) {
    const int input = layout_.hyper + static_cast<int>(i);
    if (context->ConstantInputAsFloatScalar(input, &value).ok() &&
        !traits_.ranges[i].Has(value)) {
      return absl::InvalidArgumentError(
          RangeError(traits_.hyper[i], traits_.ranges[i], value));
    }
  }
  if (context->ConstantInputAsFloatScalar(layout_.clip_value, &value).ok() &&
      !(value >= 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("clip_value must be >= 0. Received: ", value, "."));
  }
  return absl::OkStatus();
}

absl::Status XlaStepOp::CheckDistinct(XlaOpKernelContext* context) const {
  std::map<const tensorflow::XlaResource*, std::string> names;
  const auto add = [&](const std::string& list, int first) -> absl::Status {
    for (int i = 0; i < layout_.count; ++i) {
      tensorflow::XlaResource* resource;
      TF_RETURN_IF_ERROR(context->GetResourceInput(first + i, &resource));
      const std::string name = absl::StrCat(list, "[", i, "]");
      const auto [other, is_new] = names.emplace(resource, name);
      if (is_new) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("Variables and slots must be different ones. Received: ",
                       other->second, " and ", name, " are the same."));
    }
    return absl::OkStatus();
  };
  TF_RETURN_IF_ERROR(add("var", layout_.var));
  for (size_t s = 0; s < layout_.slots.size(); ++s) {
    if (layout_.slots[s] == OpLayout::kAbsent) continue;
    TF_RETURN_IF_ERROR(add(traits_.slots[s], layout_.slots[s]));
  }
  return absl::OkStatus();
}

DataType XlaStepOp::SlotType(XlaOpKernelContext* context, int input) const {
  tensorflow::XlaResource* resource;
  if (slot_dtype_ != tensorflow::DT_FLOAT ||
      !context->GetResourceInput(input, &resource).ok() ||
      FormatOf(resource->type()) == SlotFormat::kPlain) {
    return slot_dtype_;
  }
  return resource->type();
}

absl::Status XlaStepOp::CheckNothingIsPacked(
    XlaOpKernelContext* context) const {
  bool packed = !rounding_seeds_.empty();
  for (size_t s = 0; s < layout_.slots.size(); ++s) {
    if (layout_.slots[s] == OpLayout::kAbsent) continue;
    for (int i = 0; i < layout_.count; ++i) {
      packed |= SlotType(context, layout_.slots[s] + i) != slot_dtype_;
    }
  }
  if (!packed) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "Slots must be float32, and rounding to nearest, where XLA compiles for "
      "another device than a CPU. Received: packed slots or rounding_seeds.");
}

absl::Status XlaStepOp::CheckSlot(XlaOpKernelContext* context, int slot, int i,
                                  const TensorShape& shape,
                                  const TensorShape& variable) const {
  TensorShape expected = variable;
  const DataType dtype = SlotType(context, layout_.slots[slot] + i);
  for (size_t s = 0; s < layout_.slots.size(); ++s) {
    if (layout_.slots[s] == OpLayout::kAbsent || traits_.IsRowSlot(s) ||
        traits_.IsRowSlot(slot) ||
        SlotType(context, layout_.slots[s] + i) == dtype) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "All slots of var[", i, "] must have the same dtype. Received: ",
        DataTypeString(dtype), " beside another."));
  }
  if (dtype == tensorflow::DT_UINT8) expected = PackedShape(variable);
  if (traits_.IsRowSlot(slot)) {
    while (expected.dims() > 1) expected.RemoveLastDims(1);
  }
  if (shape == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      traits_.slots[slot], "[", i, "] must have ",
      traits_.IsRowSlot(slot) ? "one number per row of var[" : "var[", i,
      "]'s shape ", expected.DebugString(), ". Received: ", shape.DebugString(),
      "."));
}

int64_t XlaStepOp::CountIds(XlaOpKernelContext* context, int i) const {
  TensorShape ids;
  const absl::Status status = InputShape(context, layout_.indices + i, &ids);
  return status.ok() ? ids.num_elements() : 0;
}

xla::XlaOp XlaStepOp::ToElements(xla::XlaOp per_row, XlaValue like) {
  const xla::Shape shape = ShapeOf(like.op());
  if (shape.dimensions().size() < 2) return per_row;
  return xla::BroadcastInDim(per_row, shape.dimensions(), {0});
}

xla::XlaOp XlaStepOp::ToRows(XlaValue elements) {
  const xla::Shape shape = ShapeOf(elements.op());
  if (shape.dimensions().size() < 2) return elements.op();
  std::vector<int64_t> first(shape.dimensions().begin(),
                             shape.dimensions().end());
  for (size_t d = 1; d < first.size(); ++d) first[d] = 1;
  const std::vector<int64_t> zeros(first.size(), 0), ones(first.size(), 1);
  return xla::Reshape(xla::Slice(elements.op(), zeros, first, ones),
                      {first[0]});
}

XlaValue XlaStepOp::MeanOver(Over over, XlaValue value,
                             const SparseRows* used) const {
  const xla::Shape shape = ShapeOf(value.op());
  xla::XlaBuilder* builder = value.op().builder();
  // Sums of millions of squares: float32 would lose the small ones.
  xla::XlaOp wide = xla::ConvertElementType(value.op(), xla::F64);
  std::vector<int64_t> dimensions(shape.dimensions().size());
  std::iota(dimensions.begin(), dimensions.end(), 0);
  double elements = 1;
  for (int64_t size : shape.dimensions()) elements *= size;
  xla::XlaOp count = xla::ConstantR0<double>(builder, elements);
  if (over == Over::kRow) {
    if (dimensions.size() < 2) return value;
    dimensions.erase(dimensions.begin());
    count = xla::ConstantR0<double>(builder, elements / shape.dimensions(0));
  } else if (used != nullptr) {
    const xla::XlaOp is_used = ToElements(used->IsUsed(), value);
    wide = xla::Select(is_used, wide, xla::ZerosLike(wide));
    count = xla::ReduceAll(xla::ConvertElementType(is_used, xla::F64),
                           xla::Zero(builder, xla::F64),
                           xla::CreateScalarAddComputation(xla::F64, builder));
  }
  const xla::XlaOp mean =
      xla::Div(xla::Reduce(wide, xla::Zero(builder, xla::F64),
                           xla::CreateScalarAddComputation(xla::F64, builder),
                           dimensions),
               count);
  const XlaValue result = ToComputeType(mean);
  return over == Over::kRow ? XlaValue(ToElements(result.op(), value)) : result;
}

bool XlaStepOp::ClipsOrDecays(XlaOpKernelContext* context) const {
  double clip_value;
  return !IsEmpty(context, layout_.gradient_scale) ||
         !IsEmpty(context, layout_.weight_decay) ||
         !context->ConstantInputAsFloatScalar(layout_.clip_value, &clip_value)
              .ok() ||
         !std::isinf(ClipBound(clip_value));
}

ClipAndDecay<XlaValue> XlaStepOp::ClipsAndDecays(
    XlaOpKernelContext* context) const {
  const auto number = [&](int input) {
    return ToComputeType(context->Input(input));
  };
  const auto for_all = [&](XlaValue x) {
    return XlaValue(xla::Broadcast(x.op(), {layout_.count}));
  };
  const XlaValue clip_value = for_all(number(layout_.clip_value));
  // A vector that is empty stands for one value for all variables.
  const auto all = [&](double x) {
    return XlaValue(xla::FullLike(clip_value.op(), x));
  };
  return {IsEmpty(context, layout_.gradient_scale)
              ? all(1)
              : number(layout_.gradient_scale),
          clip_value,
          IsEmpty(context, layout_.weight_decay)
              ? all(0)
              : number(layout_.weight_decay) *
                    for_all(number(layout_.learning_rate))};
}

ClipAndDecay<XlaValue> XlaStepOp::ClipAndDecayAt(
    const ClipAndDecay<XlaValue>& numbers, int i) {
  ClipAndDecay<XlaValue> own;
  MapFields(numbers, own, [i](const XlaValue& values) {
    return XlaValue(
        xla::Reshape(xla::SliceInDim(values.op(), i, i + 1, 1, 0), {}));
  });
  own.clip_value = ClipBound(own.clip_value);
  return own;
}

xla::XlaOp XlaStepOp::Gradient(XlaOpKernelContext* context, int i) const {
  const xla::XlaOp gradient = context->Input(layout_.grad + i);
  if (layout_.indices == OpLayout::kAbsent) return gradient;
  return WithAllPlaces(gradient);
}

xla::XlaOp XlaStepOp::Ids(XlaOpKernelContext* context, int i) const {
  return IdsOfAllPlaces(context->Input(layout_.indices + i));
}

namespace {

template <class AllVariants, bool sparse>
void Register(const OptimizerTraits& traits) {
  using ::tensorflow::DT_BFLOAT16;
  using ::tensorflow::DT_DOUBLE;
  using ::tensorflow::DT_FLOAT;
  using ::tensorflow::DT_HALF;
  const auto make = [](::tensorflow::OpKernelConstruction* context)
      -> ::tensorflow::OpKernel* {
    return new XlaApplyOp<AllVariants, sparse>(context);
  };
  RegisterXlaOp(OpName(traits, sparse), make,
                {DT_FLOAT, DT_DOUBLE, DT_HALF, DT_BFLOAT16});
}

bool RegisterSteps() {
  ForEachOptimizer([](auto variants) {
    using AllVariants = decltype(variants);
    const OptimizerTraits traits = TraitsOf(variants);
    Register<AllVariants, false>(traits);
    Register<AllVariants, true>(traits);
  });
  return true;
}

[[maybe_unused]] const bool steps_registered = RegisterSteps();

}  // namespace
}  // namespace tf_optim
