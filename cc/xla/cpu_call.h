// A function of ours that XLA calls on a CPU with its buffers and its threads.
#ifndef TF_OPTIM_CC_XLA_CPU_CALL_H_
#define TF_OPTIM_CC_XLA_CPU_CALL_H_

#include <string>

#include "cc/kernels/share.h"
#include "cc/xla/ffi_call.h"

namespace tf_optim {

using CallFunction = void (*)(const CallBuffers& inputs,
                              const CallBuffers& results,
                              const ParallelFor& parallel_for);

// Calls `function`, which may throw, with what XLA has passed.
XLA_FFI_Error* RunCpuCall(XLA_FFI_CallFrame* frame, CallFunction function);

// Makes Function::Call known to XLA by Function::Name(), once, and returns
// that.
template <class Function>
const std::string& CpuCallTarget() {
  static const std::string* const target = [] {
    const auto* name = new std::string(Function::Name());
    RegisterCall(*name, "Host", [](XLA_FFI_CallFrame* frame) {
      return RunCpuCall(frame, &Function::Call);
    });
    return name;
  }();
  return *target;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_CPU_CALL_H_
