// TfOptim>AddToAccumulator and ClearTouchedRows: gradient accumulation under
// XLA, as computations and, on a CPU, as calls that touch the rows alone.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/drivers/accumulate.h"
#include "cc/drivers/sort_ids.h"
#include "cc/values/storage.h"
#include "cc/values/xla_version.h"
#include "cc/xla/cpu_call.h"
#include "cc/xla/in_place_call.h"
#include "cc/xla/register.h"
#include "cc/xla/shape_of.h"
#include "cc/xla/sparse_rows.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"

namespace tf_optim {
namespace {

using ::tensorflow::DataType;
using ::tensorflow::XlaOpKernelContext;
using ::xla::XlaOp;

// Results: the accumulator, and which of its rows are touched. Both are the
// first operands too, in the same memory.
template <class T>
AccumulatorItem<T> TableOf(const CallBuffers& results) {
  AccumulatorItem<T> item = {};
  item.table = static_cast<T*>(results[0].data());
  item.rows = results[1].element_count();
  item.width = item.rows > 0 ? results[0].element_count() / item.rows : 0;
  return item;
}

bool* TouchedOf(const CallBuffers& results) {
  return static_cast<bool*>(results[1].data());
}

// The functions that are called on a CPU. Operands behind those two: whether
// they are known, ids, gradients.
template <class T>
struct CpuAdd {
  static std::string Name() {
    return absl::StrCat("tf_optim_add_to_accumulator_",
                        static_cast<int>(kStorageOf<T>));
  }

  static void Call(const CallBuffers& inputs, const CallBuffers& results,
                   const ParallelFor& parallel_for) {
    AccumulatorItem<T> item = TableOf<T>(results);
    bool* const touched = TouchedOf(results);
    if (!*static_cast<const bool*>(inputs[2].data())) {
      FindNamedRows(item, parallel_for, touched);
    }
    item.indices = static_cast<const int64_t*>(inputs[3].data());
    item.count = inputs[3].element_count();
    item.grad = static_cast<const T*>(inputs[4].data());
    const std::vector<AccumulatorItem<T>> items = {item};
    std::vector<IdSorter> sorters;
    SortItems<Outside::kLeaveOut>(items, parallel_for, &sorters);
    const SortedIds ids = sorters[0].ids();
    const std::vector<std::vector<RowRun>> runs = {RunsOf(ids)};
    ForEachRun(items, runs, parallel_for,
               [&](const auto& of, size_t i, int64_t r) {
                 const RowRun& run = runs[i][r];
                 AddToTable(of, ids, run);
                 touched[run.row] = true;
               });
  }
};

// The operand behind those two is not used.
template <class T>
struct CpuClear {
  static std::string Name() {
    return absl::StrCat("tf_optim_clear_touched_rows_",
                        static_cast<int>(kStorageOf<T>));
  }

  static void Call(const CallBuffers&, const CallBuffers& results,
                   const ParallelFor& parallel_for) {
    const AccumulatorItem<T> item = TableOf<T>(results);
    bool* const touched = TouchedOf(results);
    const std::vector<std::vector<RowRun>> runs = {RunsOf(touched, item.rows)};
    ForEachRun(std::vector<AccumulatorItem<T>>{item}, runs, parallel_for,
               [&](const auto& of, size_t i, int64_t r) {
                 const int64_t row = runs[i][r].row;
                 std::fill_n(of.table + row * of.width, of.width, T{0});
                 touched[row] = false;
               });
  }
};

template <template <class> class Function>
const std::string& TargetFor(DataType type) {
  return type == tensorflow::DT_DOUBLE ? CpuCallTarget<Function<double>>()
                                       : CpuCallTarget<Function<float>>();
}

// A bool per row as one per element of `like`.
XlaOp ToElements(XlaOp per_row, XlaOp like) {
  return xla::BroadcastInDim(per_row, ShapeOf(like).dimensions(), {0});
}

// What both ops have in common. Inputs: an accumulator, `touched`.
class XlaAccumulatorOp : public tensorflow::XlaOpKernel {
 public:
  explicit XlaAccumulatorOp(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("T", &type_));
  }

  void Compile(XlaOpKernelContext* context) final {
    tensorflow::TensorShape table, rows;
    XlaOp accumulator, touched;
    OP_REQUIRES_OK(context,
                   context->ReadVariableInput(0, type_, &table, &accumulator));
    OP_REQUIRES_OK(context, context->ReadVariableInput(1, tensorflow::DT_BOOL,
                                                       &rows, &touched));
    OP_REQUIRES(context,
                table.dims() > 0 && rows.dims() == 1 &&
                    rows.dim_size(0) == table.dim_size(0),
                absl::InvalidArgumentError(absl::StrCat(
                    "touched must have a number for each row of an accumulator "
                    "of shape ",
                    table.DebugString(), ". Received: shape ",
                    rows.DebugString(), ".")));
    std::vector<XlaOp> after = Change(context, table, accumulator, touched);
    if (!context->status().ok()) return;
    OP_REQUIRES_OK(context, context->AssignVariable(0, type_, after[0]));
    OP_REQUIRES_OK(context,
                   context->AssignVariable(1, tensorflow::DT_BOOL, after[1]));
  }

 protected:
  // The accumulator and `touched` afterwards.
  virtual std::vector<XlaOp> Change(XlaOpKernelContext* context,
                                    const tensorflow::TensorShape& table,
                                    XlaOp accumulator, XlaOp touched) const = 0;

  template <template <class> class Function>
  std::vector<XlaOp> Call(XlaOp accumulator, XlaOp touched,
                          const std::vector<XlaOp>& others) const {
    return CallInPlace(TargetFor<Function>(type_), /*attributes=*/"",
                       {{accumulator, touched}}, others)[0];
  }

 private:
  DataType type_;
};

class AddToAccumulatorOp : public XlaAccumulatorOp {
 public:
  using XlaAccumulatorOp::XlaAccumulatorOp;

 protected:
  std::vector<XlaOp> Change(XlaOpKernelContext* context,
                            const tensorflow::TensorShape& table,
                            XlaOp accumulator, XlaOp touched) const override {
    const XlaOp is_known = context->Input(2);
    const XlaOp grad = WithAllPlaces(context->Input(3));
    const XlaOp ids = IdsOfAllPlaces(context->Input(4));
    tensorflow::TensorShape expected = table;
    expected.set_dim(0, ShapeOf(ids).dimensions(0));
    tensorflow::TensorShape given;
    for (int64_t size : ShapeOf(grad).dimensions()) given.AddDim(size);
    if (given != expected) {
      context->SetStatus(absl::InvalidArgumentError(
          absl::StrCat("grad must have shape ", expected.DebugString(),
                       ". Received: shape ", given.DebugString(), ".")));
      return {};
    }
    if (IsOnCpu(context)) {
      return Call<CpuAdd>(accumulator, touched, {is_known, ids, grad});
    }
    const XlaOp zeros = xla::ZerosLike(accumulator);
    std::vector<int64_t> inner;
    for (int d = 1; d < table.dims(); ++d) inner.push_back(d);
    const XlaOp found = xla::Reduce(
        xla::Ne(accumulator, zeros), xla::ConstantR0(grad.builder(), false),
        xla::CreateScalarOrComputation(xla::PRED, grad.builder()), inner);
    const XlaOp known = xla::Select(
        xla::Broadcast(is_known, {table.dim_size(0)}), touched, found);
    const SparseRows named(ids, table);
    if (named.empty()) return {accumulator, known};
    const std::vector<XlaOp> read = named.Read(grad, {accumulator});
    const XlaOp all = xla::Broadcast(xla::ConstantR0(grad.builder(), true),
                                     {given.dim_size(0)});
    return {named.Scatter(accumulator, xla::Add(read[1], read[0])),
            named.Scatter(known, all)};
  }
};

class ClearTouchedRowsOp : public XlaAccumulatorOp {
 public:
  using XlaAccumulatorOp::XlaAccumulatorOp;

 protected:
  std::vector<XlaOp> Change(XlaOpKernelContext* context,
                            const tensorflow::TensorShape&, XlaOp accumulator,
                            XlaOp touched) const override {
    if (IsOnCpu(context)) {
      return Call<CpuClear>(accumulator, touched, {context->Input(2)});
    }
    const XlaOp of_element = ToElements(touched, accumulator);
    return {xla::Select(of_element, xla::ZerosLike(accumulator), accumulator),
            xla::ZerosLike(touched)};
  }
};

template <class Op>
void Register(const char* name) {
  RegisterXlaOp(
      name,
      [](tensorflow::OpKernelConstruction* context) -> tensorflow::OpKernel* {
        return new Op(context);
      },
      {DataType::DT_FLOAT, DataType::DT_DOUBLE});
}

bool RegisterAccumulators() {
  Register<AddToAccumulatorOp>("TfOptim>AddToAccumulator");
  Register<ClearTouchedRowsOp>("TfOptim>ClearTouchedRows");
  return true;
}

[[maybe_unused]] const bool accumulators_registered = RegisterAccumulators();

}  // namespace
}  // namespace tf_optim
