#include "cc/xla/cpu_call.h"

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "cc/values/xla_version.h"

#if TFO_XLA_CALLS

namespace xla::ffi {

// In every TensorFlow's library; the C function of this purpose is not.
const XLA_FFI_Api* GetXlaFfiApi();

}  // namespace xla::ffi

namespace tf_optim {
namespace {

XLA_FFI_Error* MakeError(const XLA_FFI_Api* api, XLA_FFI_Error_Code code,
                         const char* message) {
  XLA_FFI_Error_Create_Args args = {};
  args.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
  args.message = message;
  args.errc = code;
  return api->XLA_FFI_Error_Create(&args);
}

// An error of XLA's, in words; frees it.
std::string TakeMessage(const XLA_FFI_Api* api, XLA_FFI_Error* error) {
  XLA_FFI_Error_GetMessage_Args get = {};
  get.struct_size = XLA_FFI_Error_GetMessage_Args_STRUCT_SIZE;
  get.error = error;
  api->XLA_FFI_Error_GetMessage(&get);
  std::string message = get.message;
  XLA_FFI_Error_Destroy_Args destroy = {};
  destroy.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE;
  destroy.error = error;
  api->XLA_FFI_Error_Destroy(&destroy);
  return message;
}

// XLA asks each function for the version that it was compiled for.
bool AsksForMetadata(const XLA_FFI_CallFrame& frame) {
  const XLA_FFI_Extension_Base* const extension = frame.extension_start;
  if (extension == nullptr || extension->type != XLA_FFI_Extension_Metadata) {
    return false;
  }
  XLA_FFI_Metadata* const metadata =
      reinterpret_cast<const XLA_FFI_Metadata_Extension*>(extension)->metadata;
  metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr,
                           XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
  metadata->traits = 0;
#ifdef XLA_FFI_UNKNOWN_TYPE_ID
  metadata->state_type_id = XLA_FFI_UNKNOWN_TYPE_ID;
#endif
  return true;
}

int64_t CountThreads(const XLA_FFI_CallFrame& frame) {
#if TFO_XLA_POOL_SAYS_SIZE
  int64_t count = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {};
  args.struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE;
  args.ctx = frame.ctx;
  args.num_threads = &count;
  if (XLA_FFI_Error* error = frame.api->XLA_FFI_ThreadPool_NumThreads(&args)) {
    TakeMessage(frame.api, error);  // there is no pool
    return 1;
  }
  return count;
#else
  (void)frame;
  return std::thread::hardware_concurrency();
#endif
}

// On a thread of XLA's, or here if it has none.
void RunSoon(const XLA_FFI_CallFrame& frame, Task task) {
  auto owned = std::make_unique<Task>(std::move(task));
  XLA_FFI_ThreadPool_Schedule_Args args = {};
  args.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE;
  args.ctx = frame.ctx;
  args.data = owned.get();
  args.task = [](void* data) {
    (*std::unique_ptr<Task>(static_cast<Task*>(data)))();
  };
  if (XLA_FFI_Error* error = frame.api->XLA_FFI_ThreadPool_Schedule(&args)) {
    TakeMessage(frame.api, error);
    (*owned)();
  } else {
    owned.release();
  }
}

}  // namespace

bool XlaCanCall() { return true; }

XLA_FFI_Error* RunCpuCall(XLA_FFI_CallFrame* frame, CallFunction function) {
  if (AsksForMetadata(*frame)) return nullptr;
  const auto parallel_for =
      ShareAmong(CountThreads(*frame),
                 [frame](Task task) { RunSoon(*frame, std::move(task)); });
  try {
    function({static_cast<size_t>(frame->args.size), frame->args.args},
             {static_cast<size_t>(frame->rets.size), frame->rets.rets},
             parallel_for);
  } catch (const std::bad_alloc&) {
    return MakeError(frame->api, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED,
                     "There is no memory left for an optimizer's step.");
  } catch (const std::exception& error) {  // no such instruction set
    return MakeError(frame->api, XLA_FFI_Error_Code_INVALID_ARGUMENT,
                     error.what());
  }
  return nullptr;
}

void RegisterCpuCall(const std::string& name, CallHandler handler) {
  const std::string platform = "Host";
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

XLA_FFI_Error* RunCpuCall(XLA_FFI_CallFrame*, CallFunction) { return nullptr; }

void RegisterCpuCall(const std::string&, CallHandler) {}

}  // namespace tf_optim

#endif
