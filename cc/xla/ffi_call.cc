#include "cc/xla/ffi_call.h"

#include "cc/values/xla_since.h"

#if TFO_XLA_CALLS

namespace tf_optim {

bool AnswerMetadata(const XLA_FFI_CallFrame& frame) {
  const auto* const extension = frame.extension_start;
  if (extension == nullptr || extension->type != XLA_FFI_Extension_Metadata) {
    return false;
  }
  XLA_FFI_Metadata* const metadata =
      reinterpret_cast<const XLA_FFI_Metadata_Extension*>(extension)->metadata;
  metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr,
                           XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
  metadata->traits = 0;
#if XLA_FFI_API_MINOR >= 2
  metadata->state_type_id = XLA_FFI_UNKNOWN_TYPE_ID;
#endif
  return true;
}

XLA_FFI_Error* MakeCallError(const XLA_FFI_Api* api, XLA_FFI_Error_Code code,
                             const std::string& message) {
  XLA_FFI_Error_Create_Args args = {};
  args.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
  args.message = message.c_str();
  args.errc = code;
  return api->XLA_FFI_Error_Create(&args);
}

std::string TakeMessage(const XLA_FFI_Api* api, XLA_FFI_Error* error) {
#if XLA_FFI_API_MINOR >= 4  // later than TensorFlow 2.21's
  XLA_FFI_Error_GetDetails_Args get = {};
  get.struct_size = XLA_FFI_Error_GetDetails_Args_STRUCT_SIZE;
  get.error = error;
  api->XLA_FFI_Error_GetDetails(&get);
#else
  XLA_FFI_Error_GetMessage_Args get = {};
  get.struct_size = XLA_FFI_Error_GetMessage_Args_STRUCT_SIZE;
  get.error = error;
  api->XLA_FFI_Error_GetMessage(&get);
#endif
  std::string message = get.message;
  XLA_FFI_Error_Destroy_Args destroy = {};
  destroy.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE;
  destroy.error = error;
  api->XLA_FFI_Error_Destroy(&destroy);
  return message;
}

}  // namespace tf_optim

#else  // the steps are computations alone

namespace tf_optim {

bool AnswerMetadata(const XLA_FFI_CallFrame&) { return false; }

XLA_FFI_Error* MakeCallError(const XLA_FFI_Api*, XLA_FFI_Error_Code,
                             const std::string&) {
  return nullptr;
}

std::string TakeMessage(const XLA_FFI_Api*, XLA_FFI_Error*) { return ""; }

}  // namespace tf_optim

#endif
