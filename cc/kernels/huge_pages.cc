// TfOptim>UseHugePages and TfOptim>FillInHugePages on a CPU.
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/kernels/huge_memory.h"
#include "cc/kernels/threads.h"
#include "cc/kernels/variables.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;
using ::tensorflow::TensorShapeUtils;

constexpr uintptr_t kPiece = 32 * kHugePage;  // moved at a time
constexpr int64_t kNoSuchCall = -1;

// Returns the bytes that have been moved. (No free page is no error.)
int64_t Collapse(uintptr_t address, uintptr_t size) {
  for (const int advice : {kAdviseHuge, kAdviseCollapse}) {
    if (Advise(address, size, advice)) continue;
    return errno == EINVAL ? kNoSuchCall : 0;
  }
  return static_cast<int64_t>(size);
}

class UseHugePagesOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<tensorflow::Var> variable;
    OP_REQUIRES_OK(
        context,
        tensorflow::LookupResource(
            context, tensorflow::HandleFromInput(context, 0), &variable));
    Tensor* bytes = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &bytes));
    // So that nobody replaces the memory meanwhile.
    const tensorflow::mutex_lock lock(*variable->mu());
    OP_REQUIRES(context, variable->tensor()->IsInitialized(),
                absl::FailedPreconditionError(
                    "variable must be initialized. Received: one without a "
                    "value."));
    // Or the next step would take other memory.
    if (tensorflow::DataTypeCanUseMemcpy(variable->tensor()->dtype())) {
      OP_REQUIRES_OK(context,
                     CopyIfShared(context, CopyOnHost, variable->tensor()));
    }
    bytes->scalar<int64_t>()() = Move(*variable->tensor());
  }

 private:
  static int64_t Move(const Tensor& tensor) {
    const HugePart part(tensor);
    int64_t sum = 0;
    for (uintptr_t at = part.first; at < part.last; at += kPiece) {
      const int64_t moved = Collapse(at, std::min(kPiece, part.last - at));
      if (moved == kNoSuchCall) return moved;
      sum += moved;
    }
    return sum;
  }
};

class FillInHugePagesOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& dims = context->input(0);
    const Tensor& value = context->input(1);
    OP_REQUIRES(context,
                TensorShapeUtils::IsVector(dims.shape()) &&
                    TensorShapeUtils::IsScalar(value.shape()),
                absl::InvalidArgumentError(absl::StrCat(
                    "dims must be a vector and value a scalar. Received: "
                    "shapes ",
                    dims.shape().DebugString(), " and ",
                    value.shape().DebugString(), ".")));
    TensorShape shape;
    OP_REQUIRES_OK(context,
                   TensorShapeUtils::MakeShape(dims.vec<int64_t>(), &shape));
    Tensor* filled = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &filled));
    AskForHugePages(*filled);
    Fill(context, value, filled);
  }

 private:
  static void Fill(OpKernelContext* context, const Tensor& value, Tensor* to) {
    // Elements come in 1, 2, 4 or 8 bytes.
    constexpr int64_t kPattern = 4096;
    char pattern[kPattern];
    const int64_t element = tensorflow::DataTypeSize(value.dtype());
    for (int64_t at = 0; at < kPattern; at += element) {
      std::memcpy(pattern + at, value.data(), element);
    }
    char* const memory = static_cast<char*>(to->data());
    const int64_t bytes = static_cast<int64_t>(to->TotalBytes());
    DeviceThreads(context)(
        (bytes + kPattern - 1) / kPattern, static_cast<double>(kPattern),
        [&](int64_t begin, int64_t end) {
          const int64_t last = std::min(bytes, end * kPattern);
          for (int64_t at = begin * kPattern; at < last; at += kPattern) {
            std::memcpy(memory + at, pattern, std::min(kPattern, last - at));
          }
        });
  }
};

REGISTER_KERNEL_BUILDER(Name("TfOptim>UseHugePages").Device("CPU"),
                        UseHugePagesOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>FillInHugePages").Device("CPU"),
                        FillInHugePagesOp);

}  // namespace
}  // namespace tf_optim
