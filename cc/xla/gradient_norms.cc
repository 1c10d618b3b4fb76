// TfOptim>GradientNorms under XLA.
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/xla/register.h"
#include "cc/xla/sparse_rows.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"

namespace tf_optim {
namespace {

using ::tensorflow::XlaOpKernelContext;
using ::xla::XlaOp;

xla::Shape ShapeOf(XlaOp op) { return op.builder()->GetShape(op).value(); }

// The sum of all elements.
XlaOp SumOf(XlaOp x) {
  return xla::ReduceAll(
      x, xla::Zero(x.builder(), ShapeOf(x).element_type()),
      xla::CreateScalarAddComputation(ShapeOf(x).element_type(), x.builder()));
}

// Where the number of rows depends on data there are as many as there can be.
XlaOp WithAllPlaces(XlaOp x) {
  const xla::Shape shape = ShapeOf(x);
  return shape.is_dynamic_dimension(0) ? xla::RemoveDynamicDimension(x, 0) : x;
}

XlaOp Ids(XlaOp indices) {
  const XlaOp ids = xla::ConvertElementType(indices, xla::S64);
  const xla::Shape shape = ShapeOf(ids);
  if (!shape.is_dynamic_dimension(0)) return ids;
  const int64_t places = shape.dimensions(0);
  const XlaOp count =
      xla::ConvertElementType(xla::GetDimensionSize(ids, 0), xla::S64);
  return xla::Select(xla::Lt(xla::Iota(ids.builder(), xla::S64, places),
                             xla::Broadcast(count, {places})),
                     WithAllPlaces(ids),
                     xla::Broadcast(xla::ScalarLike(ids, -1), {places}));
}

class GradientNormsOp : public tensorflow::XlaOpKernel {
 public:
  explicit GradientNormsOp(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("N", &dense_));
    OP_REQUIRES_OK(context, context->GetAttr("N_sparse", &sparse_));
    OP_REQUIRES_OK(context, context->GetAttr("rows", &rows_));
    OP_REQUIRES(context, sparse_ <= dense_,
                absl::InvalidArgumentError(absl::StrCat(
                    "indices must have at most as many tensors as grad (",
                    dense_, "). Received: ", sparse_, ".")));
    dense_ -= sparse_;
    OP_REQUIRES(context, static_cast<int>(rows_.size()) == sparse_,
                absl::InvalidArgumentError(absl::StrCat(
                    "rows must have a number for each of ", sparse_,
                    " sparse gradients. Received: ", rows_.size(), ".")));
  }

  void Compile(XlaOpKernelContext* context) override {
    std::vector<XlaOp> squares, non_finite, rows;
    for (int i = 0; i < dense_; ++i) {
      Measure(ToComputeType(context->Input(i)), &squares, &non_finite);
    }
    for (int i = 0; i < sparse_; ++i) {
      const XlaOp values =
          ToComputeType(WithAllPlaces(context->Input(dense_ + i)));
      const xla::Shape given = ShapeOf(values);
      std::vector<int64_t> table(given.dimensions().begin(),
                                 given.dimensions().end());
      OP_REQUIRES(
          context, !table.empty(),
          absl::InvalidArgumentError(absl::StrCat(
              "grad[", dense_ + i, "] must have rows. Received: a scalar.")));
      table[0] = rows_[i];
      tensorflow::TensorShape shape;
      OP_REQUIRES_OK(context,
                     tensorflow::TensorShape::BuildTensorShape(table, &shape));
      const SparseRows named(Ids(context->Input(dense_ + sparse_ + i)), shape);
      if (named.empty()) {
        Measure(values, &squares, &non_finite);
        rows.push_back(xla::ConstantR0<int64_t>(values.builder(), 0));
        continue;
      }
      const XlaOp used = named.IsUsed();
      const XlaOp sums = named.Read(values, {})[0];
      const XlaOp is_used = xla::BroadcastInDim(used, given.dimensions(), {0});
      Measure(xla::Select(is_used, sums, xla::ZerosLike(sums)), &squares,
              &non_finite);
      rows.push_back(SumOf(xla::ConvertElementType(used, xla::S64)));
    }
    context->SetOutput(0, Vector<double>(context, squares));
    context->SetOutput(1, Vector<int64_t>(context, non_finite));
    context->SetOutput(2, Vector<int64_t>(context, rows));
  }

 private:
  static XlaOp ToComputeType(XlaOp x) {
    const bool is_double = ShapeOf(x).element_type() == xla::F64;
    return xla::ConvertElementType(x, is_double ? xla::F64 : xla::F32);
  }

  static void Measure(XlaOp x, std::vector<XlaOp>* squares,
                      std::vector<XlaOp>* non_finite) {
    const XlaOp wide = xla::ConvertElementType(x, xla::F64);
    squares->push_back(SumOf(xla::Mul(wide, wide)));
    non_finite->push_back(
        SumOf(xla::ConvertElementType(xla::Not(xla::IsFinite(x)), xla::S64)));
  }

  template <class Number>
  static XlaOp Vector(XlaOpKernelContext* context,
                      const std::vector<XlaOp>& numbers) {
    std::vector<XlaOp> ones;
    for (XlaOp number : numbers) ones.push_back(xla::Reshape(number, {1}));
    if (ones.empty()) return xla::ConstantR1<Number>(context->builder(), {});
    return xla::ConcatInDim(context->builder(), ones, 0);
  }

  int dense_ = 0, sparse_ = 0;
  std::vector<int64_t> rows_;
};

bool RegisterAll() {
  using ::tensorflow::DataType;
  RegisterXlaOp(
      "TfOptim>GradientNorms",
      [](tensorflow::OpKernelConstruction* context) -> tensorflow::OpKernel* {
        return new GradientNormsOp(context);
      },
      {DataType::DT_FLOAT, DataType::DT_DOUBLE, DataType::DT_HALF,
       DataType::DT_BFLOAT16});
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace tf_optim
