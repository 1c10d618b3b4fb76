#include "absl/log/log.h"
#include "cc/values/xla_since.h"
#include "cc/xla/ffi_call.h"

#if TFO_XLA_CALLS

namespace xla::ffi {

// In every TensorFlow's library; the C function of this purpose is not.
const XLA_FFI_Api* GetXlaFfiApi();

}  // namespace xla::ffi

namespace tf_optim {

bool XlaCanCall() { return true; }

void RegisterCall(const std::string& name, const std::string& platform,
                  CallHandler handler) {
  const XLA_FFI_Api* const api = xla::ffi::GetXlaFfiApi();
  XLA_FFI_Handler_Register_Args args = {};
  args.struct_size = XLA_FFI_Handler_Register_Args_STRUCT_SIZE;
  args.name = {name.data(), name.size()};
  args.platform = {platform.data(), platform.size()};
  args.bundle.execute = handler;
  if (XLA_FFI_Error* error = api->XLA_FFI_Handler_Register(&args)) {
    LOG(FATAL) << name << ": " << TakeMessage(api, error);
  }
}

}  // namespace tf_optim

#else  // the steps are computations alone

namespace tf_optim {

bool XlaCanCall() { return false; }

void RegisterCall(const std::string&, const std::string&, CallHandler) {}

}  // namespace tf_optim

#endif
