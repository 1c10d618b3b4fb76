// TfOptim>GradientNorms on a CPU.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/cpu/norms.h"
#include "cc/drivers/sort_ids.h"
#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"
#include "cc/ops/norms_layout.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

// [count] indices of [count, ...] values.
absl::Status CheckSparse(const Tensor& values, const Tensor& indices,
                         int64_t rows, int dense, int i) {
  if (indices.dims() != 1 || values.dims() < 1 ||
      values.dim_size(0) != indices.dim_size(0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "grad[", dense + i, "] must have a row for each of indices[", i,
        "], which must be a vector. Received: grad of shape ",
        values.shape().DebugString(), ", indices of shape ",
        indices.shape().DebugString(), "."));
  }
  if (!KeyFits(rows, indices.dim_size(0))) {
    return TooManyKeysError(i, rows, indices.dim_size(0));
  }
  return absl::OkStatus();
}

// The drivers' storage type of a TensorFlow type.
template <class TfType>
struct StorageTypeOf {
  using type = TfType;
};
template <>
struct StorageTypeOf<Eigen::half> {
  using type = Float16;
};
template <>
struct StorageTypeOf<Eigen::bfloat16> {
  using type = BFloat16;
};

template <class TfType, class Index>
class GradientNormsOp : public tensorflow::OpKernel {
 public:
  using T = typename StorageTypeOf<TfType>::type;

  explicit GradientNormsOp(OpKernelConstruction* context) : OpKernel(context) {
    NormsLayout layout;
    OP_REQUIRES_OK(context, ReadNormsLayout(
                                [context](const char* attr, auto* value) {
                                  return context->GetAttr(attr, value);
                                },
                                &layout));
    dense_ = layout.dense;
    sparse_ = layout.sparse;
    rows_ = layout.rows;
    try {
      isa_ = ChosenIsa();
    } catch (const std::runtime_error& error) {
      OP_REQUIRES(context, false, absl::InvalidArgumentError(error.what()));
    }
  }

  void Compute(OpKernelContext* context) override {
    try {
      OP_REQUIRES_OK(context, Measure(context));
    } catch (const std::bad_alloc&) {
      context->CtxFailure(OutOfMemoryError());
    }
  }

 private:
  struct Ids {
    const Index* indices;
    int64_t count, rows;
  };

  absl::Status Measure(OpKernelContext* context) const {
    std::vector<NormItem<T>> items(dense_ + sparse_);
    for (int i = 0; i < dense_; ++i) {
      const Tensor& grad = context->input(i);
      items[i].grad = static_cast<const T*>(grad.data());
      items[i].size = grad.NumElements();
    }
    std::vector<Ids> ids;
    for (int i = 0; i < sparse_; ++i) {
      const Tensor& values = context->input(dense_ + i);
      const Tensor& indices = context->input(dense_ + sparse_ + i);
      TF_RETURN_IF_ERROR(CheckSparse(values, indices, rows_[i], dense_, i));
      const int64_t count = indices.NumElements();
      NormItem<T>& item = items[dense_ + i];
      item.grad = static_cast<const T*>(values.data());
      item.width = count > 0 ? values.NumElements() / count : 0;
      item.is_sparse = true;
      ids.push_back(
          {static_cast<const Index*>(indices.data()), count, rows_[i]});
    }
    const ParallelFor parallel_for = DeviceThreads(context);
    std::vector<IdSorter> sorters;
    if (sparse_ > 0) SortItems<Outside::kLeaveOut>(ids, parallel_for, &sorters);
    for (int i = 0; i < sparse_; ++i) items[dense_ + i].ids = sorters[i].ids();
    const auto norms =
        MeasureGradients(items, FindNormKernels<T>(isa_), parallel_for);
    TF_RETURN_IF_ERROR(Write(context, norms));
    return WriteSorted(context, ids, sorters);
  }

  absl::Status Write(OpKernelContext* context,
                     const std::vector<GradientNorm>& norms) const {
    Tensor *squares, *non_finite, *rows;
    TF_RETURN_IF_ERROR(
        context->allocate_output(0, {dense_ + sparse_}, &squares));
    TF_RETURN_IF_ERROR(
        context->allocate_output(1, {dense_ + sparse_}, &non_finite));
    TF_RETURN_IF_ERROR(context->allocate_output(2, {sparse_}, &rows));
    for (int i = 0; i < dense_ + sparse_; ++i) {
      squares->vec<double>()(i) = norms[i].squares;
      non_finite->vec<int64_t>()(i) = norms[i].non_finite;
      if (i >= dense_) rows->vec<int64_t>()(i - dense_) = norms[i].rows;
    }
    return absl::OkStatus();
  }

  absl::Status WriteSorted(OpKernelContext* context,
                           const std::vector<Ids>& ids,
                           const std::vector<IdSorter>& sorters) const {
    for (int i = 0; i < sparse_; ++i) {
      const SortedIds sorted = sorters[i].ids();
      const int64_t count = sorted.count == ids[i].count ? sorted.count : 0;
      Tensor* keys;
      TF_RETURN_IF_ERROR(context->allocate_output(3 + i, {count}, &keys));
      std::copy_n(sorted.keys, count, static_cast<uint64_t*>(keys->data()));
    }
    return absl::OkStatus();
  }

  int dense_ = 0, sparse_ = 0;  // gradients
  std::vector<int64_t> rows_;
  Isa isa_ = Isa::kBaseline;
};

template <class TfType, class Index>
void RegisterFor() {
  RegisterKernel<GradientNormsOp<TfType, Index>>(
      tensorflow::register_kernel::Name("TfOptim>GradientNorms")
          .Device(tensorflow::DEVICE_CPU)
          .template TypeConstraint<TfType>("T")
          .template TypeConstraint<Index>("Tindices")
          .Build());
}

template <class... TfTypes>
bool RegisterAll() {
  (RegisterFor<TfTypes, int32_t>(), ...);
  (RegisterFor<TfTypes, int64_t>(), ...);
  return true;
}

[[maybe_unused]] const bool registered =
    RegisterAll<float, double, Eigen::half, Eigen::bfloat16>();

}  // namespace
}  // namespace tf_optim
