#include "cc/xla/cpu_call.h"

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "cc/values/xla_since.h"

#if TFO_XLA_CALLS

namespace tf_optim {
namespace {

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

XLA_FFI_Error* RunCpuCall(XLA_FFI_CallFrame* frame, CallFunction function) {
  if (AnswerMetadata(*frame)) return nullptr;
  const auto parallel_for =
      ShareAmong(CountThreads(*frame),
                 [frame](Task task) { RunSoon(*frame, std::move(task)); });
  try {
    function({static_cast<size_t>(frame->args.size), frame->args.args},
             {static_cast<size_t>(frame->rets.size), frame->rets.rets},
             parallel_for);
  } catch (const std::bad_alloc&) {
    return MakeCallError(frame->api, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED,
                         "There is no memory left for an optimizer's step.");
  } catch (const std::exception& error) {  // no such instruction set
    return MakeCallError(frame->api, XLA_FFI_Error_Code_INVALID_ARGUMENT,
                         error.what());
  }
  return nullptr;
}

}  // namespace tf_optim

#else  // the steps are computations alone

namespace tf_optim {

XLA_FFI_Error* RunCpuCall(XLA_FFI_CallFrame*, CallFunction) { return nullptr; }

}  // namespace tf_optim

#endif
