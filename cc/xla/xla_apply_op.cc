#include "cc/xla/xla_apply_op.h"

#include <cmath>
#include <utility>
#include <vector>

#include "cc/rules/all_rules.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "xla/hlo/builder/lib/slicing.h"

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
  OP_REQUIRES_OK(context, ReadLayout<absl::Status>(
                              traits_, sparse,
                              [context](const std::string& attr, int* n) {
                                return context->GetAttr(attr, n);
                              },
                              &layout_));
  OP_REQUIRES_OK(context, context->GetAttr("T", &dtype_));
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

bool XlaStepOp::HasTail(XlaOpKernelContext* context) const {
  double clip_value;
  return context->InputShape(layout_.gradient_scale).num_elements() > 0 ||
         context->InputShape(layout_.weight_decay).num_elements() > 0 ||
         !context->ConstantInputAsFloatScalar(layout_.clip_value, &clip_value)
              .ok() ||
         !std::isinf(clip_value);
}

Tail<XlaValue> XlaStepOp::TailAt(XlaOpKernelContext* context, int i) const {
  // A vector that is empty stands for one value for all variables.
  const auto element = [&](int input, double otherwise) {
    if (context->InputShape(input).num_elements() == 0) {
      return XlaValue(otherwise);
    }
    return ToComputeType(xla::Reshape(
        xla::SliceInDim(context->Input(input), i, i + 1, 1, 0), {}));
  };
  XlaValue decay = element(layout_.weight_decay, 0);
  if (context->InputShape(layout_.weight_decay).num_elements() > 0) {
    decay = decay * ToComputeType(context->Input(layout_.learning_rate));
  }
  return {element(layout_.gradient_scale, 1),
          ToComputeType(context->Input(layout_.clip_value)), decay};
}

XlaValue XlaStepOp::Gradient(XlaOpKernelContext* context, int i) const {
  return ToComputeType(context->Input(layout_.grad + i));
}

absl::Status XlaStepOp::ReadVariable(XlaOpKernelContext* context, int input,
                                     DataType dtype, TensorShape* shape,
                                     xla::XlaOp* value) const {
  return context->ReadVariableInput(input, dtype, shape, value);
}

namespace {

constexpr const char* kJitDevices[] = {"XLA_CPU_JIT", "XLA_GPU_JIT"};

// TensorFlow makes kernels of all XLA ops once, at the first function it
// optimizes; what is registered later has to make its own.
bool KernelsAreMade() {
  const auto kernels = ::tensorflow::GetRegisteredKernelsForOp("AddV2");
  for (const auto& kernel : kernels.kernel()) {
    if (kernel.device_type() == kJitDevices[0]) return true;
  }
  return false;
}

template <class AllVariants, bool sparse>
void Register(const OptimizerTraits& traits) {
  using ::tensorflow::DT_BFLOAT16;
  using ::tensorflow::DT_DOUBLE;
  using ::tensorflow::DT_FLOAT;
  using ::tensorflow::DT_HALF;
  using ::tensorflow::XlaOpRegistrationBuilder;
  using ::tensorflow::register_kernel::Name;
  const auto make = [](::tensorflow::OpKernelConstruction* context)
      -> ::tensorflow::OpKernel* {
    return new XlaApplyOp<AllVariants, sparse>(context);
  };
  const std::string name = traits.OpName(sparse);
  ::tensorflow::XlaOpRegistrar registrar(
      XlaOpRegistrationBuilder::Name(name)
          .TypeConstraint("T", {DT_FLOAT, DT_DOUBLE, DT_HALF, DT_BFLOAT16})
          .Build(make));
  if (!KernelsAreMade()) return;
  for (const char* device : kJitDevices) {
    ::tensorflow::kernel_factory::OpKernelRegistrar(
        Name(name.c_str()).Device(device).Build(), "tf_optim", make);
  }
}

bool RegisterAll() {
  ForEachOptimizer([](auto variants) {
    using AllVariants = decltype(variants);
    const OptimizerTraits traits = TraitsOf(variants);
    Register<AllVariants, false>(traits);
    Register<AllVariants, true>(traits);
  });
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace tf_optim
