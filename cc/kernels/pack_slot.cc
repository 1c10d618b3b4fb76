// TfOptim>PackSlot and TfOptim>UnpackSlot on a CPU.
#include <stdexcept>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/cpu/packed.h"
#include "cc/drivers/denormals.h"
#include "cc/kernels/threads.h"
#include "cc/ops/packed_layout.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

class PackingOp : public tensorflow::OpKernel {
 public:
  explicit PackingOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("is_signed", &is_signed_));
    try {
      isa_ = ChosenIsa();
    } catch (const std::runtime_error& error) {
      OP_REQUIRES(context, false, absl::InvalidArgumentError(error.what()));
    }
  }

 protected:
  // Calls work(kernels, begin, end) for the rows of a slot of this shape.
  template <class Work>
  void ForRows(OpKernelContext* context, const TensorShape& shape,
               const Work& work) const {
    const int64_t rows = shape.dims() > 0 ? shape.dim_size(0) : 1;
    if (shape.num_elements() == 0) return;
    const PackKernels& kernels = FindPackKernels(isa_);
    DeviceThreads(context)(rows, static_cast<double>(WidthOf(shape)),
                           [&](int64_t begin, int64_t end) {
                             const ScopedFlushDenormals flush;
                             work(kernels, begin, end);
                           });
  }

  bool is_signed_;
  Isa isa_;
};

class PackSlotOp : public PackingOp {
 public:
  using PackingOp::PackingOp;

  void Compute(OpKernelContext* context) override {
    const Tensor& plain = context->input(0);
    Tensor* packed = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, PackedShape(plain.shape()), &packed));
    ForRows(context, plain.shape(),
            [&](const PackKernels& kernels, int64_t begin, int64_t end) {
              kernels.pack(plain.flat<float>().data(), WidthOf(plain.shape()),
                           is_signed_, begin, end,
                           packed->flat<uint8_t>().data());
            });
  }
};

class UnpackSlotOp : public PackingOp {
 public:
  explicit UnpackSlotOp(OpKernelConstruction* context) : PackingOp(context) {
    OP_REQUIRES_OK(context, context->GetAttr("shape", &shape_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& packed = context->input(0);
    const TensorShape expected = PackedShape(shape_);
    OP_REQUIRES(context, packed.shape() == expected,
                absl::InvalidArgumentError(absl::StrCat(
                    "packed must have shape ", expected.DebugString(),
                    ", of a slot of ", shape_.DebugString(),
                    ". Received: ", packed.shape().DebugString(), ".")));
    Tensor* plain = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape_, &plain));
    ForRows(context, shape_,
            [&](const PackKernels& kernels, int64_t begin, int64_t end) {
              kernels.unpack(packed.flat<uint8_t>().data(), WidthOf(shape_),
                             is_signed_, begin, end,
                             plain->flat<float>().data());
            });
  }

 private:
  TensorShape shape_;
};

REGISTER_KERNEL_BUILDER(Name("TfOptim>PackSlot").Device(tensorflow::DEVICE_CPU),
                        PackSlotOp);
REGISTER_KERNEL_BUILDER(
    Name("TfOptim>UnpackSlot").Device(tensorflow::DEVICE_CPU), UnpackSlotOp);

}  // namespace
}  // namespace tf_optim
