// A function of ours that XLA calls on a CPU with its buffers and its threads.
#ifndef TF_OPTIM_CC_XLA_CPU_CALL_H_
#define TF_OPTIM_CC_XLA_CPU_CALL_H_

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "cc/kernels/share.h"
#include "xla/ffi/api/c_api.h"
#include "xla/ffi/api/ffi.h"

namespace tf_optim {

using CallInputs = ::xla::ffi::RemainingArgs;
using CallResults = ::xla::ffi::RemainingRets;

// Function::Call(inputs, results, parallel_for), which may throw.
template <class Function>
::xla::ffi::Error RunCpuCall(CallInputs inputs, CallResults results,
                             ::xla::ffi::ThreadPool pool) {
  using Error = ::xla::ffi::Error;
  const auto parallel_for = ShareAmong(pool.num_threads(), [&pool](Task task) {
    pool.Schedule(std::move(task));
  });
  try {
    Function::Call(inputs, results, parallel_for);
  } catch (const std::bad_alloc&) {
    return Error(::xla::ffi::ErrorCode::kResourceExhausted,
                 "There is no memory left for an optimizer's step.");
  } catch (const std::exception& error) {  // no such instruction set
    return Error::InvalidArgument(error.what());
  }
  return Error::Success();
}

// Makes the function known to XLA by a name, once, and returns that.
template <class Function>
const std::string& CpuCallTarget() {
  static const std::string* const target = [] {
    namespace ffi = ::xla::ffi;
    const auto* name = new std::string(Function::Name());
    ffi::Ffi::RegisterStaticHandler(
        XLA_FFI_GetApi(), *name, "Host", +[](XLA_FFI_CallFrame* frame) {
          static auto* const handler = ffi::Ffi::Bind()
                                           .RemainingArgs()
                                           .RemainingRets()
                                           .Ctx<ffi::ThreadPool>()
                                           .To(RunCpuCall<Function>)
                                           .release();
          return handler->Call(frame);
        });
    return name;
  }();
  return *target;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_CPU_CALL_H_
