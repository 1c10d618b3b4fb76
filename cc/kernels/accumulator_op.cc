#include "cc/kernels/accumulator_op.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace tf_optim {

using ::absl::FailedPreconditionError;
using ::absl::StrCat;
using ::tensorflow::DataTypeString;
using ::tensorflow::Tensor;

absl::Status CheckAccumulator(const Tensor& table, tensorflow::DataType dtype,
                              int i) {
  if (table.IsInitialized() && table.dtype() == dtype) return absl::OkStatus();
  return FailedPreconditionError(
      StrCat("accumulator[", i, "] must be initialized, of dtype ",
             DataTypeString(dtype), ". Received: ",
             table.IsInitialized() ? DataTypeString(table.dtype())
                                   : "one that is not initialized",
             "."));
}

absl::Status Touched::Check(const Tensor& tensor, int i) {
  const bool has_room = tensor.IsInitialized() &&
                        tensor.dtype() == tensorflow::DT_INT64 &&
                        tensor.dims() == 1 && tensor.dim_size(0) >= kFirst;
  if (has_room) {
    Touched touched(static_cast<int64_t*>(tensor.data()));
    const int64_t most = tensor.dim_size(0) - kFirst;
    if (0 <= touched.kept() && touched.kept() <= touched.count() &&
        touched.count() <= most) {
      return absl::OkStatus();
    }
  }
  return FailedPreconditionError(StrCat(
      "touched[", i,
      "] must be an int64 vector of a step, a count of rows, how many of them "
      "are kept, whether any may be, and these rows. Received: ",
      tensor.IsInitialized() ? tensor.DebugString(4)
                             : std::string("one that is not initialized"),
      "."));
}

absl::Status CheckKept(const Tensor& table, const Tensor& touched,
                       const Tensor& kept, tensorflow::DataType dtype, int i) {
  const int64_t count = Touched(static_cast<int64_t*>(touched.data())).kept();
  tensorflow::TensorShape expected = table.shape();
  if (kept.IsInitialized() && kept.dtype() == dtype && kept.dims() > 0 &&
      kept.dim_size(0) >= count && expected.dims() > 0) {
    expected.set_dim(0, kept.dim_size(0));
    if (kept.shape() == expected) return absl::OkStatus();
  }
  return FailedPreconditionError(
      StrCat("kept[", i, "] must have dtype ", DataTypeString(dtype), " and ",
             count, " or more rows of a table of shape ",
             table.shape().DebugString(), ". Received: ",
             kept.IsInitialized() ? StrCat(DataTypeString(kept.dtype()), " ",
                                           kept.shape().DebugString())
                                  : "one that is not initialized",
             "."));
}

absl::Status Reserve(tensorflow::OpKernelContext* context, int64_t used,
                     int64_t needed, int64_t most, Tensor* tensor) {
  if (needed <= tensor->dim_size(0)) return absl::OkStatus();
  tensorflow::TensorShape shape = tensor->shape();
  shape.set_dim(0, std::max(needed, std::min(2 * needed, most)));
  Tensor larger;
  TF_RETURN_IF_ERROR(context->allocate_temp(tensor->dtype(), shape, &larger));
  if (used > 0) {
    const int64_t row = tensor->TotalBytes() / tensor->dim_size(0);
    std::memcpy(larger.data(), tensor->data(), static_cast<size_t>(used * row));
  }
  *tensor = larger;
  return absl::OkStatus();
}

}  // namespace tf_optim
