// TfOptim>GradientNorms under XLA: as a computation and, on a CPU, as a call of
// the driver.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/cpu/norms.h"
#include "cc/drivers/sort_ids.h"
#include "cc/ops/norms_layout.h"
#include "cc/values/xla_version.h"
#include "cc/xla/cpu_call.h"
#include "cc/xla/register.h"
#include "cc/xla/shape_of.h"
#include "cc/xla/sparse_rows.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"

namespace tf_optim {
namespace {

using ::tensorflow::XlaOpKernelContext;
using ::xla::XlaOp;

// The sum of all elements.
XlaOp SumOf(XlaOp x) {
  return xla::ReduceAll(
      x, xla::Zero(x.builder(), ShapeOf(x).element_type()),
      xla::CreateScalarAddComputation(ShapeOf(x).element_type(), x.builder()));
}

// The function that is called on a CPU. Operands: dense gradients, the rows of
// sparse ones, their ids, and the number of rows of their variables. Results:
// those of the op.
template <class T>
class CpuNorms {
 public:
  // The name under which XLA knows it.
  static const std::string& Target() { return CpuCallTarget<CpuNorms>(); }

  static std::string Name() {
    return absl::StrCat("tf_optim_norms_", static_cast<int>(kStorageOf<T>));
  }

  static void Call(const CallBuffers& inputs, const CallBuffers& results,
                   const ParallelFor& parallel_for) {
    const CallBuffer rows = inputs[inputs.size() - 1];
    const size_t sparse = rows.element_count();
    const size_t dense = inputs.size() - 1 - 2 * sparse;
    std::vector<NormItem<T>> items(dense + sparse);
    std::vector<Ids> ids;
    for (size_t i = 0; i < items.size(); ++i) {
      const CallBuffer grad = inputs[i];
      items[i].grad = static_cast<const T*>(grad.data());
      items[i].size = grad.element_count();
      if (i < dense) continue;
      const CallBuffer indices = inputs[i + sparse];
      const int64_t count = indices.element_count();
      items[i].is_sparse = true;
      items[i].width = count > 0 ? items[i].size / count : 0;
      ids.push_back({static_cast<const int64_t*>(indices.data()), count,
                     static_cast<const int64_t*>(rows.data())[i - dense]});
    }
    std::vector<IdSorter> sorters;
    if (sparse > 0) SortItems<Outside::kLeaveOut>(ids, parallel_for, &sorters);
    for (size_t i = 0; i < sparse; ++i) items[dense + i].ids = sorters[i].ids();
    const std::vector<GradientNorm> norms =
        MeasureGradients(items, FindNormKernels<T>(ChosenIsa()), parallel_for);
    for (size_t i = 0; i < norms.size(); ++i) {
      static_cast<double*>(results[0].data())[i] = norms[i].squares;
      static_cast<int64_t*>(results[1].data())[i] = norms[i].non_finite;
      if (i >= dense) {
        static_cast<int64_t*>(results[2].data())[i - dense] = norms[i].rows;
      }
    }
  }

 private:
  struct Ids {
    const int64_t* indices;
    int64_t count, rows;
  };
};

const std::string& CpuTarget(xla::PrimitiveType type) {
  switch (type) {
    case xla::F64:
      return CpuNorms<double>::Target();
    case xla::F16:
      return CpuNorms<Float16>::Target();
    case xla::BF16:
      return CpuNorms<BFloat16>::Target();
    default:
      return CpuNorms<float>::Target();
  }
}

class GradientNormsOp : public tensorflow::XlaOpKernel {
 public:
  explicit GradientNormsOp(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context) {
    NormsLayout layout;
    OP_REQUIRES_OK(context, ReadNormsLayout(
                                [context](const char* attr, auto* value) {
                                  return context->GetAttr(attr, value);
                                },
                                &layout));
    dense_ = layout.dense;
    sparse_ = layout.sparse;
    rows_ = layout.rows;
  }

  void Compile(XlaOpKernelContext* context) override {
    if (IsOnCpu(context)) {
      CallDriver(context);
      return;
    }
    std::vector<XlaOp> squares, non_finite, rows;
    for (int i = 0; i < dense_; ++i) {
      Measure(ToComputeType(context->Input(i)), &squares, &non_finite);
    }
    for (int i = 0; i < sparse_; ++i) {
      OP_REQUIRES(context,
                  !ShapeOf(context->Input(dense_ + i)).dimensions().empty(),
                  NoRowsError(i));
      const XlaOp values =
          ToComputeType(WithAllPlaces(context->Input(dense_ + i)));
      const xla::Shape given = ShapeOf(values);
      std::vector<int64_t> table(given.dimensions().begin(),
                                 given.dimensions().end());
      table[0] = rows_[i];
      tensorflow::TensorShape shape;
      OP_REQUIRES_OK(context,
                     tensorflow::TensorShape::BuildTensorShape(table, &shape));
      const SparseRows named(
          IdsOfAllPlaces(context->Input(dense_ + sparse_ + i)), shape);
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
    SortNothing(context);
  }

 private:
  void CallDriver(XlaOpKernelContext* context) const {
    std::vector<XlaOp> operands;
    for (int i = 0; i < dense_; ++i) operands.push_back(context->Input(i));
    for (int i = 0; i < sparse_; ++i) {
      const XlaOp grad = context->Input(dense_ + i);
      OP_REQUIRES(context, !ShapeOf(grad).dimensions().empty(), NoRowsError(i));
      operands.push_back(WithAllPlaces(grad));
    }
    for (int i = 0; i < sparse_; ++i) {
      operands.push_back(IdsOfAllPlaces(context->Input(dense_ + sparse_ + i)));
    }
    operands.push_back(xla::ConstantR1<int64_t>(context->builder(), rows_));
    std::vector<xla::Shape> shapes;
    for (XlaOp operand : operands) {
      const xla::Shape shape = ShapeOf(operand);
      shapes.push_back(xla::ShapeUtil::MakeShapeWithDescendingLayout(
          shape.element_type(), shape.dimensions()));
    }
    const auto vector = [](xla::PrimitiveType type, int64_t size) {
      return xla::ShapeUtil::MakeShapeWithDescendingLayout(type, {size});
    };
    const int64_t count = dense_ + sparse_;
    const XlaOp call = xla::CustomCallWithLayout(
        context->builder(), CpuTarget(ShapeOf(operands[0]).element_type()),
        operands,
        xla::ShapeUtil::MakeTupleShape({vector(xla::F64, count),
                                        vector(xla::S64, count),
                                        vector(xla::S64, sparse_)}),
        shapes, /*opaque=*/"", /*has_side_effect=*/false,
        /*output_operand_aliasing=*/{}, /*literal=*/nullptr,
        xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (int i = 0; i < 3; ++i) {
      context->SetOutput(i, xla::GetTupleElement(call, i));
    }
    SortNothing(context);
  }

  // Steps under XLA sort for themselves.
  void SortNothing(XlaOpKernelContext* context) const {
    for (int i = 0; i < sparse_; ++i) {
      context->SetOutput(3 + i,
                         xla::ConstantR1<uint64_t>(context->builder(), {}));
    }
  }

  absl::Status NoRowsError(int i) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "grad[", dense_ + i, "] must have rows. Received: a scalar."));
  }

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

bool RegisterNorms() {
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

[[maybe_unused]] const bool norms_registered = RegisterNorms();

}  // namespace
}  // namespace tf_optim
