#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cc/drivers/sort_ids.h"
#include "cc/kernels/history_handle.h"
#include "cc/kernels/row_history.h"
#include "cc/kernels/step_histories.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::core::RefCountPtr;

// Null in a SavedModel, where all rows are up to date.
RefCountPtr<RowHistory> HistoryOrNull(OpKernelContext* context) {
  return HistoryBehind(context, tensorflow::HandleFromInput(context, 0));
}

class RowHistoryOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Tensor* handle = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &handle));
    handle->scalar<tensorflow::ResourceHandle>()() = MakeHistory(context);
  }
};

class CatchUpRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const RefCountPtr<RowHistory> history = HistoryOrNull(context);
    if (history == nullptr) return;
    const absl::MutexLock lock(history->mu());
    OP_REQUIRES_OK(context, history->CatchUp(context, context->input(2)));
    history->NoteRead();
  }
};

class CatchUpAllRowsOp : public OpKernel {
 public:
  explicit CatchUpAllRowsOp(tensorflow::OpKernelConstruction* context)
      : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("closes", &closes_));
  }

  void Compute(OpKernelContext* context) override {
    const RefCountPtr<RowHistory> history = HistoryOrNull(context);
    if (history == nullptr) return;
    if (!context->input(2).scalar<bool>()()) return;
    const absl::MutexLock lock(history->mu());
    OP_REQUIRES_OK(context, history->CatchUpAll(context));
    history->NoteRead();
    if (closes_) history->Close();
  }

 private:
  bool closes_ = false;
};

// The first of a table's ids that is none of its rows; -1 for none.
template <class Index>
int64_t FirstBadId(const Tensor& ids, int64_t rows) {
  const auto* const data = static_cast<const Index*>(ids.data());
  return FirstBadIndex(data, ids.NumElements(), rows);
}

class LookupRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    RefCountPtr<RowHistory> history = HistoryOrNull(context);
    if (history == nullptr) history.reset(new RowHistory);  // of no steps
    RefCountPtr<tensorflow::Var> table;
    OP_REQUIRES_OK(
        context, tensorflow::LookupResource(
                     context, tensorflow::HandleFromInput(context, 1), &table));
    const Tensor& ids = context->input(2);
    const absl::MutexLock lock(history->mu());
    tensorflow::TensorShape shape = ids.shape();
    int64_t rows;
    {
      const tensorflow::tf_shared_lock table_lock(*table->mu());
      const Tensor& values = *table->tensor();
      OP_REQUIRES(context, table->is_initialized && values.dims() > 0,
                  absl::FailedPreconditionError(
                      "var must be initialized and have rows. Received: a "
                      "variable without."));
      rows = values.dim_size(0);
      for (int i = 1; i < values.dims(); ++i) shape.AddDim(values.dim_size(i));
    }
    const int64_t bad = ids.dtype() == tensorflow::DT_INT32
                            ? FirstBadId<int32_t>(ids, rows)
                            : FirstBadId<int64_t>(ids, rows);
    OP_REQUIRES(context, bad < 0,
                absl::InvalidArgumentError(absl::StrCat(
                    "indices must be in [0, ", rows,
                    "). Received: ", ids.SubSlice(bad).DebugString(), ".")));
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    OP_REQUIRES_OK(context, history->Read(context, table.get(), ids, output));
    history->NoteRead();
  }
};

class IsCaughtUpOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    RefCountPtr<RowHistory> history;
    OP_REQUIRES_OK(context, HistoryAt(context, 0, &history));
    const absl::MutexLock lock(history->mu());
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &output));
    output->scalar<bool>()() = history->IsCaughtUp();
  }
};

class TouchedRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    RefCountPtr<RowHistory> history;
    OP_REQUIRES_OK(context, HistoryAt(context, 0, &history));
    const Tensor& since = context->input(1);
    OP_REQUIRES(context, tensorflow::TensorShapeUtils::IsScalar(since.shape()),
                absl::InvalidArgumentError(absl::StrCat(
                    "since_step must be a scalar. Received: shape ",
                    since.shape().DebugString(), ".")));
    std::vector<int64_t> rows;
    {
      const absl::MutexLock lock(history->mu());
      OP_REQUIRES_OK(context,
                     history->TouchedRows(since.scalar<int64_t>()(), &rows));
    }
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context,
                   context->allocate_output(
                       0, {static_cast<int64_t>(rows.size())}, &output));
    std::copy(rows.begin(), rows.end(), output->flat<int64_t>().data());
  }
};

using ::tensorflow::DEVICE_CPU;

REGISTER_KERNEL_BUILDER(Name("TfOptim>RowHistory").Device(DEVICE_CPU),
                        RowHistoryOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>CatchUpRows").Device(DEVICE_CPU),
                        CatchUpRowsOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>CatchUpAllRows").Device(DEVICE_CPU),
                        CatchUpAllRowsOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>LookupRows").Device(DEVICE_CPU),
                        LookupRowsOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>IsCaughtUp").Device(DEVICE_CPU),
                        IsCaughtUpOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>TouchedRows").Device(DEVICE_CPU),
                        TouchedRowsOp);

}  // namespace
}  // namespace tf_optim
