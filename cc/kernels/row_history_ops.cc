#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/kernels/row_history.h"
#include "cc/kernels/step_op.h"
#include "cc/rules/rule.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {
namespace {

using ::absl::OkStatus;
using ::absl::Status;
using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::core::RefCountPtr;

Status HistoryAt(OpKernelContext* context, int input,
                 RefCountPtr<RowHistory>* history) {
  const auto& handle = tensorflow::HandleFromInput(context, input);
  if (tensorflow::LookupResource(context, handle, history).ok()) {
    return OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "history must be that of a prepared table. Received: '", handle.name(),
      "', which is none: a SavedModel cannot go on with \"exact\" training."));
}

// A SavedModel has the table's own handle in the place of its history's: all of
// its rows are up to date.
bool IsOfSavedModel(const tensorflow::ResourceHandle& handle) {
  return handle.hash_code() !=
         tensorflow::TypeIndex::Make<RowHistory>().hash_code();
}

class RowHistoryOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Tensor* handle = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &handle));
    handle->scalar<tensorflow::ResourceHandle>()() =
        tensorflow::ResourceHandle::MakeRefCountingHandle(
            new RowHistory(), context->device()->name());
  }
};

template <class Index>
class CatchUpRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    if (IsOfSavedModel(tensorflow::HandleFromInput(context, 0))) return;
    RefCountPtr<RowHistory> history;
    OP_REQUIRES_OK(context, HistoryAt(context, 0, &history));
    const auto indices = context->input(2).flat<Index>();
    OP_REQUIRES_OK(context,
                   history->CatchUp(context, indices.data(), indices.size()));
  }
};

class CatchUpAllRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    if (IsOfSavedModel(tensorflow::HandleFromInput(context, 0))) return;
    RefCountPtr<RowHistory> history;
    OP_REQUIRES_OK(context, HistoryAt(context, 0, &history));
    OP_REQUIRES_OK(context, history->CatchUpAll(context));
  }
};

template <class Index>
class CheckRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const int tables = context->num_inputs() / 2;
    for (int i = 0; i < tables; ++i) {
      RefCountPtr<RowHistory> history;
      OP_REQUIRES_OK(context, HistoryAt(context, i, &history));
      const auto ids = context->input(tables + i).flat<Index>();
      OP_REQUIRES_OK(context, history->Check(ids.data(), ids.size(), i));
    }
  }
};

template <class Index>
class AdvanceRowsOp : public OpKernel {
 public:
  explicit AdvanceRowsOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("N", &tables_));
    int with_indices = 0;
    OP_REQUIRES_OK(context, context->GetAttr("N_indices", &with_indices));
    has_indices_ = with_indices > 0;
    OP_REQUIRES(context, with_indices == 0 || with_indices == tables_,
                absl::InvalidArgumentError(
                    "indices must have one tensor for each history, or none."));
    int slot_mask = 0, flags = 0;
    OP_REQUIRES_OK(context, context->GetAttr("optimizer", &kind_.optimizer));
    OP_REQUIRES_OK(context, context->GetAttr("slot_mask", &slot_mask));
    OP_REQUIRES_OK(context, context->GetAttr("flags", &flags));
    OP_REQUIRES_OK(context, context->GetAttr("T", &kind_.dtype));
    OP_REQUIRES_OK(context, context->GetAttr("N_slots", &slots_));
    int averages = 0;
    OP_REQUIRES_OK(context, context->GetAttr("N_average", &averages));
    kind_.averaged = averages > 0;
    OP_REQUIRES(context, averages == 0 || averages == tables_,
                absl::InvalidArgumentError(
                    "average must have one variable per table, or none."));
    OP_REQUIRES_OK(context, context->GetAttr("rounding_seeds", &seeds_));
    OP_REQUIRES_OK(context,
                   context->GetAttr("rounds_variables", &rounds_variables_));
    OP_REQUIRES(context,
                seeds_.empty() || static_cast<int>(seeds_.size()) == tables_,
                absl::InvalidArgumentError(
                    "rounding_seeds must have one number per table, or none."));
    slot_mask_ = static_cast<uint32_t>(slot_mask);
    kind_.variant = VariantKey(slot_mask_, static_cast<uint32_t>(flags));
    const int present = __builtin_popcount(slot_mask_);
    OP_REQUIRES(context, slots_ == present * tables_,
                absl::InvalidArgumentError(
                    "slots must have a variable for each table and each bit "
                    "of slot_mask."));
  }

  void Compute(OpKernelContext* context) override {
    const int indices = 2 * tables_ + slots_;
    const int numbers = indices + (has_indices_ ? tables_ : 0);
    const Tensor& rate = context->input(numbers);
    const auto hyper = context->input(numbers + 2).flat<double>();
    const auto decay = context->input(numbers + 3).flat<double>();
    IdleStep step;
    step.learning_rate = rate.dtype() == tensorflow::DT_FLOAT
                             ? rate.scalar<float>()()
                             : rate.scalar<double>()();
    step.iterations = context->input(numbers + 1).scalar<int64_t>()();
    step.hyper.assign(hyper.data(), hyper.data() + hyper.size());
    step.tail.average_kept =
        context->input(context->num_inputs() - 1).scalar<double>()();
    for (int i = 0; i < tables_; ++i) {
      if (!seeds_.empty()) {
        step.rounding = RoundingOf(seeds_[i], step.iterations);
        step.rounds_var = rounds_variables_;
      }
      step.tail.decay = decay.size() == 0 ? 0 : step.learning_rate * decay(i);
      RefCountPtr<RowHistory> history;
      OP_REQUIRES_OK(context, HistoryAt(context, i, &history));
      if (!has_indices_) {
        OP_REQUIRES_OK(context, history->AdvanceAll(context, step));
        continue;
      }
      RowHistory::Vars vars;
      OP_REQUIRES_OK(context, VarsOf(context, i, numbers + 4, &vars));
      const auto ids = context->input(indices + i).flat<Index>();
      OP_REQUIRES_OK(context, history->Advance(context, kind_, std::move(vars),
                                               step, ids.data(), ids.size()));
    }
  }

 private:
  Status VarsOf(OpKernelContext* context, int table, int averages,
                RowHistory::Vars* vars) const {
    const auto add = [&](int input) {
      vars->emplace_back();
      return tensorflow::LookupResource(
          context, tensorflow::HandleFromInput(context, input), &vars->back());
    };
    TF_RETURN_IF_ERROR(add(tables_ + table));
    int next = 2 * tables_ + slots_ / tables_ * table;
    for (int slot = 0; slot < kMaxSlots; ++slot) {
      if (slot_mask_ >> slot & 1) {
        TF_RETURN_IF_ERROR(add(next++));
      } else {
        vars->emplace_back();
      }
    }
    if (kind_.averaged) return add(averages + table);
    vars->emplace_back();
    return OkStatus();
  }

  int tables_;
  bool has_indices_;
  IdleKind kind_;
  std::vector<int64_t> seeds_;
  bool rounds_variables_;
  uint32_t slot_mask_;
  int slots_;
};

class TouchedRowsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    RefCountPtr<RowHistory> history;
    OP_REQUIRES_OK(context, HistoryAt(context, 0, &history));
    std::vector<int64_t> rows;
    OP_REQUIRES_OK(context, history->TouchedRows(
                                context->input(1).scalar<int64_t>()(), &rows));
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
REGISTER_KERNEL_BUILDER(Name("TfOptim>CatchUpAllRows").Device(DEVICE_CPU),
                        CatchUpAllRowsOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>TouchedRows").Device(DEVICE_CPU),
                        TouchedRowsOp);

template <template <class> class Op>
bool RegisterForIndices(const char* name) {
  using ::tensorflow::register_kernel::Name;
  RegisterKernel<Op<int32_t>>(Name(name)
                                  .Device(DEVICE_CPU)
                                  .TypeConstraint<int32_t>("Tindices")
                                  .Build());
  RegisterKernel<Op<int64_t>>(Name(name)
                                  .Device(DEVICE_CPU)
                                  .TypeConstraint<int64_t>("Tindices")
                                  .Build());
  return true;
}

[[maybe_unused]] const bool registered =
    RegisterForIndices<CatchUpRowsOp>("TfOptim>CatchUpRows") &&
    RegisterForIndices<CheckRowsOp>("TfOptim>CheckRows") &&
    RegisterForIndices<AdvanceRowsOp>("TfOptim>AdvanceRows");

}  // namespace
}  // namespace tf_optim
