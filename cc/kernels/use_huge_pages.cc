// TfOptim>UseHugePages on a CPU.
#include <algorithm>
#include <cerrno>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "absl/status/status.h"
#include "cc/kernels/variables.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
constexpr uintptr_t kPiece = 32 * kHugePage;  // moved at a time
constexpr int64_t kNoSuchCall = -1;

// Returns the bytes that have been moved. (No free page is no error.)
int64_t Collapse(uintptr_t address, uintptr_t size) {
#if defined(__linux__)
  constexpr int kHuge = 14, kCollapse = 25;  // headers may be older than Linux
  void* const memory = reinterpret_cast<void*>(address);
  for (const int advice : {kHuge, kCollapse}) {
    if (madvise(memory, size, advice) == 0) continue;
    return errno == EINVAL ? kNoSuchCall : 0;
  }
  return static_cast<int64_t>(size);
#else
  return kNoSuchCall;
#endif
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
    const auto first = reinterpret_cast<uintptr_t>(tensor.data());
    const uintptr_t last =
        (first + tensor.TotalBytes()) / kHugePage * kHugePage;
    int64_t sum = 0;
    for (uintptr_t at = (first + kHugePage - 1) / kHugePage * kHugePage;
         at < last; at += kPiece) {
      const int64_t moved = Collapse(at, std::min(kPiece, last - at));
      if (moved == kNoSuchCall) return moved;
      sum += moved;
    }
    return sum;
  }
};

REGISTER_KERNEL_BUILDER(Name("TfOptim>UseHugePages").Device("CPU"),
                        UseHugePagesOp);

}  // namespace
}  // namespace tf_optim
