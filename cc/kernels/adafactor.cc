// TfOptim>AdafactorMeans and TfOptim>AdafactorSteps on a CPU.
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/drivers/factored_cpu.h"
#include "cc/kernels/huge_memory.h"
#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

// The shape of the means per row: all but the last dimension. Of a vector, or a
// scalar, they are per element.
TensorShape RowsOf(TensorShape shape) {
  if (shape.dims() > 1) shape.RemoveLastDims(1);
  return shape;
}

// All but the last but one.
TensorShape ColumnsOf(TensorShape shape) {
  if (shape.dims() < 2) return TensorShape();
  shape.RemoveDim(shape.dims() - 2);
  return shape;
}

template <class T>
class AdafactorOp : public tensorflow::OpKernel {
 public:
  explicit AdafactorOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("N", &count_));
  }

  void Compute(OpKernelContext* context) override {
    try {
      OP_REQUIRES_OK(context, Run(context));
    } catch (const std::bad_alloc&) {
      context->CtxFailure(OutOfMemoryError());
    }
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context) const = 0;

  int count() const { return count_; }

  absl::Status Read(OpKernelContext* context,
                    std::vector<Factored<T>>* items) const {
    items->resize(count_);
    for (int i = 0; i < count_; ++i) {
      const Tensor& grad = context->input(i);
      const Tensor& rows = context->input(count_ + i);
      const Tensor& columns = context->input(2 * count_ + i);
      const TensorShape& shape = grad.shape();
      if (rows.shape() != RowsOf(shape) ||
          (shape.dims() > 1 && columns.shape() != ColumnsOf(shape))) {
        return absl::InvalidArgumentError(absl::StrCat(
            "rows[", i, "] and columns[", i, "] must have the shapes ",
            RowsOf(shape).DebugString(), " and ",
            ColumnsOf(shape).DebugString(), ", for grad[", i, "] of shape ",
            shape.DebugString(), ". Received: ", rows.shape().DebugString(),
            " and ", columns.shape().DebugString(), "."));
      }
      Factored<T>& item = (*items)[i];
      item.grad = static_cast<const T*>(grad.data());
      item.row_means = static_cast<const T*>(rows.data());
      item.column_means = static_cast<const T*>(columns.data());
      item.rows = shape.num_elements();
      if (shape.dims() < 2 || item.rows == 0) continue;
      item.rows = shape.dim_size(shape.dims() - 2);
      item.columns = shape.dim_size(shape.dims() - 1);
      item.matrices = shape.num_elements() / (item.rows * item.columns);
    }
    return absl::OkStatus();
  }

  // Outputs first, first + 1, ... of the shapes of inputs `like` on, in their
  // memory where nobody else reads it.
  absl::Status Write(OpKernelContext* context, int first, int like,
                     std::vector<T*>* to) const {
    to->resize(count_);
    for (int i = 0; i < count_; ++i) {
      Tensor* output;
      TF_RETURN_IF_ERROR(context->forward_input_or_allocate_output(
          {like + i}, first + i, context->input(like + i).shape(), &output));
      (*to)[i] = static_cast<T*>(output->data());
    }
    return absl::OkStatus();
  }

  // The same, but new outputs share one piece of memory, since the system takes
  // its time over many that are large. For what is soon used up: a variable
  // would keep all of it.
  absl::Status WriteTogether(OpKernelContext* context, int first, int like,
                             std::vector<T*>* to) const {
    constexpr int64_t kAligned = 64 / static_cast<int64_t>(sizeof(T));
    to->resize(count_);
    std::vector<std::pair<int, int64_t>> others;  // and where each begins
    int64_t size = 0;
    for (int i = 0; i < count_; ++i) {
      const TensorShape& shape = context->input(like + i).shape();
      Tensor* output = nullptr;
      if (context->forward_input_to_output_with_shape(like + i, first + i,
                                                      shape, &output)) {
        (*to)[i] = static_cast<T*>(output->data());
        continue;
      }
      others.emplace_back(i, size);
      const int64_t elements = shape.num_elements();
      size += (elements + kAligned - 1) / kAligned * kAligned;
    }
    Tensor all;
    TF_RETURN_IF_ERROR(context->allocate_temp(
        tensorflow::DataTypeToEnum<T>::value, {size}, &all));
    AskForHugePages(all);
    for (const auto& [i, begin] : others) {
      const TensorShape& shape = context->input(like + i).shape();
      Tensor output;
      if (!output.CopyFrom(all.Slice(begin, begin + shape.num_elements()),
                           shape)) {
        return absl::InternalError("A slice must have its input's shape.");
      }
      (*to)[i] = static_cast<T*>(output.data());
      context->set_output(first + i, output);
    }
    return absl::OkStatus();
  }

 private:
  int count_ = 0;
};

template <class T>
class AdafactorMeansOp : public AdafactorOp<T> {
  using AdafactorOp<T>::AdafactorOp;

  absl::Status Run(OpKernelContext* context) const override {
    const int count = this->count();
    std::vector<Factored<T>> items;
    TF_RETURN_IF_ERROR(this->Read(context, &items));
    for (int i = 3 * count; i < 3 * count + 2; ++i) {
      if (context->input(i).dims() == 0) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("share and epsilon must be scalars. Received: shape ",
                       context->input(i).shape().DebugString(), "."));
    }
    const auto number = [&](int i) {
      return static_cast<T>(context->input(3 * count + i).scalar<double>()());
    };
    std::vector<T*> rows, columns;
    TF_RETURN_IF_ERROR(this->Write(context, 0, count, &rows));
    TF_RETURN_IF_ERROR(this->Write(context, count, 2 * count, &columns));
    for (int i = 0; i < count; ++i) {
      // What no element moves stays: the columns of vectors, and both if there
      // is no element.
      const auto keep = [&](int input, T* to) {
        const Tensor& before = context->input(input);
        std::memmove(to, before.data(), before.TotalBytes());
      };
      if (items[i].is_vector()) keep(2 * count + i, columns[i]);
      if (context->input(i).NumElements() == 0) keep(count + i, rows[i]);
    }
    MoveMeans<T>(items, {number(0), number(1)}, rows, columns,
                 DeviceThreads(context));
    return absl::OkStatus();
  }
};

template <class T>
class AdafactorStepsOp : public AdafactorOp<T> {
  using AdafactorOp<T>::AdafactorOp;

  absl::Status Run(OpKernelContext* context) const override {
    std::vector<Factored<T>> items;
    TF_RETURN_IF_ERROR(this->Read(context, &items));
    std::vector<T*> steps;
    TF_RETURN_IF_ERROR(this->WriteTogether(context, 0, 0, &steps));
    Tensor* squares;
    TF_RETURN_IF_ERROR(
        context->allocate_output(this->count(), {this->count()}, &squares));
    FactoredSteps(items, steps, static_cast<double*>(squares->data()),
                  DeviceThreads(context));
    return absl::OkStatus();
  }
};

template <class T>
void RegisterFor() {
  const auto definition = [](const char* name) {
    return tensorflow::register_kernel::Name(name)
        .Device(tensorflow::DEVICE_CPU)
        .template TypeConstraint<T>("T")
        .Build();
  };
  RegisterKernel<AdafactorMeansOp<T>>(definition("TfOptim>AdafactorMeans"));
  RegisterKernel<AdafactorStepsOp<T>>(definition("TfOptim>AdafactorSteps"));
}

[[maybe_unused]] const bool registered =
    (RegisterFor<float>(), RegisterFor<double>(), true);

}  // namespace
}  // namespace tf_optim
