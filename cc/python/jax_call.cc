// _jax.so: the function that XLA calls on a GPU, for the XLA of JAX, which is
// where tests/gpu_jax_test.py runs it without TensorFlow. Made of cc/xla/
// gpu_call.cc, ffi_call.cc and this, and of JAX's own xla/ffi/api/c_api.h.
#include "cc/xla/gpu_call.h"

namespace tf_optim {
namespace {

CallHandler registered = nullptr;

}  // namespace

// JAX has Python register it, of its address.
void RegisterCall(const std::string&, const std::string&, CallHandler handler) {
  registered = handler;
}

}  // namespace tf_optim

// Of the kernels that `find` finds.
extern "C" __attribute__((visibility("default"))) void* tfo_jax_gpu_handler(
    tf_optim::FindGpuKernelsByName find) {
  tf_optim::UseGpuKernels(find, /*emulated=*/false);
  return reinterpret_cast<void*>(tf_optim::registered);
}
