#include <vector>

#include "cc/drivers/sort_ids.h"
#include "cc/kernels/variables.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {
namespace {

template <class Index>
class CheckIndicesOp : public tensorflow::OpKernel {
 public:
  explicit CheckIndicesOp(tensorflow::OpKernelConstruction* context)
      : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("rows", &rows_));
    OP_REQUIRES(context,
                static_cast<int>(rows_.size()) == context->num_inputs(),
                absl::InvalidArgumentError(
                    "rows must have a number for each variable."));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    for (int i = 0; i < context->num_inputs(); ++i) {
      if (rows_[i] < 0) continue;
      const auto indices = context->input(i).flat<Index>();
      const int64_t bad =
          FirstBadIndex(indices.data(), indices.size(), rows_[i]);
      OP_REQUIRES(context, bad < 0,
                  BadIndexError(i, bad, rows_[i], indices(bad)));
    }
  }

 private:
  std::vector<int64_t> rows_;
};

REGISTER_KERNEL_BUILDER(Name("TfOptim>CheckIndices")
                            .Device(tensorflow::DEVICE_CPU)
                            .TypeConstraint<int32_t>("Tindices"),
                        CheckIndicesOp<int32_t>);
REGISTER_KERNEL_BUILDER(Name("TfOptim>CheckIndices")
                            .Device(tensorflow::DEVICE_CPU)
                            .TypeConstraint<int64_t>("Tindices"),
                        CheckIndicesOp<int64_t>);

}  // namespace
}  // namespace tf_optim
