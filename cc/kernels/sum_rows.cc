// TfOptim>SumRepeatedRows on a CPU.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/drivers/accumulate.h"
#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

template <class T, class Index>
class SumRepeatedRowsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    try {
      OP_REQUIRES_OK(context, Sum(context));
    } catch (const std::bad_alloc&) {
      context->CtxFailure(OutOfMemoryError());
    }
  }

 private:
  static absl::Status Sum(OpKernelContext* context) {
    const Tensor &grad = context->input(0), &indices = context->input(1);
    if (indices.dims() != 1 || grad.dims() < 1 ||
        grad.dim_size(0) != indices.dim_size(0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "grad must have a row for each of indices, which must be a vector. "
          "Received: grad of shape ",
          grad.shape().DebugString(), ", indices of shape ",
          indices.shape().DebugString(), "."));
    }
    const int64_t count = indices.NumElements();
    const ParallelFor parallel_for = DeviceThreads(context);
    IdSorter sorter;
    int64_t first = 0;
    TF_RETURN_IF_ERROR(Sort(static_cast<const Index*>(indices.data()), count,
                            parallel_for, &sorter, &first));
    std::vector<std::vector<RowRun>> runs = {RunsOf(sorter.ids())};
    const int64_t size = static_cast<int64_t>(runs[0].size());

    tensorflow::TensorShape shape = grad.shape();
    shape.set_dim(0, size);
    Tensor *sum = nullptr, *rows = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, shape, &sum));
    TF_RETURN_IF_ERROR(context->allocate_output(1, {size}, &rows));
    Index* const row_of = static_cast<Index*>(rows->data());
    for (int64_t r = 0; r < size; ++r) {
      row_of[r] = static_cast<Index>(runs[0][r].row + first);
      runs[0][r].row = r;  // of the output
    }
    const AccumulatorItem<T> item = {static_cast<T*>(sum->data()),
                                     size,
                                     count > 0 ? grad.NumElements() / count : 0,
                                     static_cast<const T*>(grad.data()),
                                     nullptr,
                                     count};
    const SortedIds ids = sorter.ids();
    ForEachRun(std::vector<AccumulatorItem<T>>{item}, runs, parallel_for,
               [&](const auto& to, size_t, int64_t r) {
                 RowRun run = runs[0][r];
                 T* const row = to.table + r * to.width;
                 const T* const one =
                     to.grad + ids.position(run.begin) * to.width;
                 std::copy_n(one, to.width, row);
                 ++run.begin;
                 AddGradients(to, ids, run, row, row);
               });
    return absl::OkStatus();
  }

  // By their distance from the least, if that is negative. It goes to *first.
  static absl::Status Sort(const Index* indices, int64_t count,
                           const ParallelFor& parallel_for, IdSorter* sorter,
                           int64_t* first) {
    if (count == 0) return absl::OkStatus();
    const auto [least, most] = std::minmax_element(indices, indices + count);
    *first = std::min<int64_t>(*least, 0);
    const uint64_t distance =
        static_cast<uint64_t>(*most) - static_cast<uint64_t>(*first);
    if (distance >=
            static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        !KeyFits(static_cast<int64_t>(distance) + 1, count)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "indices must be nearer to each other. Received: ", *least, " and ",
          *most, " among ", count, "."));
    }
    const int64_t rows = static_cast<int64_t>(distance) + 1;
    if (*first == 0) {
      sorter->Sort(indices, count, rows, parallel_for);
      return absl::OkStatus();
    }
    std::vector<int64_t> distances(count);
    std::transform(indices, indices + count, distances.begin(),
                   [first](Index id) { return id - *first; });
    sorter->Sort(distances.data(), count, rows, parallel_for);
    return absl::OkStatus();
  }
};

template <class T, class Index>
void RegisterFor() {
  RegisterKernel<SumRepeatedRowsOp<T, Index>>(
      tensorflow::register_kernel::Name("TfOptim>SumRepeatedRows")
          .Device(tensorflow::DEVICE_CPU)
          .template TypeConstraint<T>("T")
          .template TypeConstraint<Index>("Tindices")
          .Build());
}

bool RegisterAll() {
  RegisterFor<float, int32_t>();
  RegisterFor<float, int64_t>();
  RegisterFor<double, int32_t>();
  RegisterFor<double, int64_t>();
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace tf_optim
