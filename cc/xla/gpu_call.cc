#include "cc/xla/gpu_call.h"

#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cc/values/xla_since.h"

namespace tf_optim {
namespace {

std::mutex mutex;
GpuCallKernels current;

}  // namespace

GpuCallKernels CurrentGpuKernels() {
  const std::lock_guard<std::mutex> lock(mutex);
  return current;
}

#if TFO_XLA_CALLS

namespace {

// An attribute by its name, or null.
const void* FindAttribute(const XLA_FFI_Attrs& attributes, const char* name) {
  for (int64_t i = 0; i < attributes.size; ++i) {
    const XLA_FFI_ByteSpan& has = *attributes.names[i];
    if (std::string(has.ptr, has.len) == name) return attributes.attrs[i];
  }
  return nullptr;
}

int64_t Integer(const XLA_FFI_Attrs& attributes, const char* name) {
  const auto* scalar =
      static_cast<const XLA_FFI_Scalar*>(FindAttribute(attributes, name));
  return scalar == nullptr ? 0 : *static_cast<const int64_t*>(scalar->value);
}

std::string Text(const XLA_FFI_Attrs& attributes, const char* name) {
  const auto* span =
      static_cast<const XLA_FFI_ByteSpan*>(FindAttribute(attributes, name));
  return span == nullptr ? "" : std::string(span->ptr, span->len);
}

// The step that a frame asks for.
struct GpuCall {
  std::string rule;
  uint32_t variant = 0;
  int storage = 0;
  bool sparse = false;
  std::vector<GpuItem> items;
  GpuStep step;
  GpuSparse of_sparse;
};

// CallGpuSteps of gpu_step.cc has made the frame.
GpuCall DecodeGpuCall(const XLA_FFI_CallFrame& frame) {
  const CallBuffers inputs(static_cast<size_t>(frame.args.size),
                           frame.args.args);
  const CallBuffers streams(static_cast<size_t>(frame.rets.size),
                            frame.rets.rets);
  GpuCall call;
  call.rule = Text(frame.attrs, "rule");
  call.variant = static_cast<uint32_t>(Integer(frame.attrs, "variant"));
  call.storage = static_cast<int>(Integer(frame.attrs, "storage"));
  call.sparse = Integer(frame.attrs, "sparse") != 0;
  call.of_sparse = {/*wide_indices=*/true, Integer(frame.attrs, "lazy") != 0};
  const auto slots = static_cast<uint32_t>(Integer(frame.attrs, "slots"));

  size_t streams_of_one = 1;
  for (uint32_t rest = slots; rest != 0; rest &= rest - 1) ++streams_of_one;
  const size_t count = streams.size() / streams_of_one;
  // Behind the streams: gradients, ids, iterations, two lists, numbers.
  const auto input = [&](size_t i) { return inputs[streams.size() + i]; };
  for (size_t i = 0; i < count; ++i) {
    size_t stream = i * streams_of_one;
    const CallBuffer variable = streams[stream++];
    GpuItem item;
    item.var = variable.data();
    item.size = variable.element_count();
    item.rows = variable.rank() > 0 ? variable.size(0) : 1;
    item.width = item.rows > 0 ? item.size / item.rows : 0;
    for (int s = 0; s < kMaxSlots; ++s) {
      if (slots >> s & 1) item.slots[s] = streams[stream++].data();
    }
    item.grad = input(i).data();
    if (call.sparse) {
      const CallBuffer ids = input(count + i);
      item.indices = ids.data();
      item.count = ids.element_count();
    }
    call.items.push_back(item);
  }
  const size_t rest = call.sparse ? 2 * count : count;
  call.step.iterations = static_cast<const int64_t*>(input(rest).data());
  call.step.gradient_scale = static_cast<const double*>(input(rest + 1).data());
  call.step.weight_decay = static_cast<const double*>(input(rest + 2).data());
  const CallBuffer numbers = input(rest + 3);
  const auto* number = static_cast<const double*>(numbers.data());
  call.step.learning_rate = number;
  call.step.learning_rate_is_double = true;
  call.step.clip_value = number + 1;
  for (int64_t i = 2; i < numbers.element_count(); ++i) {
    call.step.hyper[i - 2] = number + i;
  }
  return call;
}

// The memory that XLA lends to a call, and gives to others afterwards: to work
// that comes later on the stream.
class CallMemory {
 public:
  explicit CallMemory(const XLA_FFI_CallFrame& frame) : frame_(frame) {}
  CallMemory(const CallMemory&) = delete;
  CallMemory& operator=(const CallMemory&) = delete;
  ~CallMemory() {
    if (memory_ == nullptr) return;
    XLA_FFI_DeviceMemory_Free_Args args = {};
    args.struct_size = XLA_FFI_DeviceMemory_Free_Args_STRUCT_SIZE;
    args.ctx = frame_.ctx;
    args.size = size_;
    args.data = memory_;
    if (XLA_FFI_Error* error = frame_.api->XLA_FFI_DeviceMemory_Free(&args)) {
      TakeMessage(frame_.api, error);
    }
  }

  GpuStatus Allocate(int64_t bytes, void** memory) {
    XLA_FFI_DeviceMemory_Allocate_Args args = {};
    args.struct_size = XLA_FFI_DeviceMemory_Allocate_Args_STRUCT_SIZE;
    args.ctx = frame_.ctx;
    // XLA takes no more than this, so the rest is ours.
    constexpr size_t kXlaAlignment = 16;
    constexpr size_t kAlignment = kGpuAlignment;
    args.size = static_cast<size_t>(bytes) + kAlignment - kXlaAlignment;
    args.alignment = kXlaAlignment;
    if (XLA_FFI_Error* error =
            frame_.api->XLA_FFI_DeviceMemory_Allocate(&args)) {
      return {GpuStatus::kNoMemory, TakeMessage(frame_.api, error)};
    }
    size_ = args.size;
    memory_ = args.data;
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_);
    *memory = reinterpret_cast<void*>((address + kAlignment - 1) &
                                      ~uintptr_t{kAlignment - 1});
    return {};
  }

 private:
  const XLA_FFI_CallFrame& frame_;
  size_t size_ = 0;
  void* memory_ = nullptr;
};

GpuStatus StreamOf(const XLA_FFI_CallFrame& frame, void** stream) {
  XLA_FFI_Stream_Get_Args args = {};
  args.struct_size = XLA_FFI_Stream_Get_Args_STRUCT_SIZE;
  args.ctx = frame.ctx;
  if (XLA_FFI_Error* error = frame.api->XLA_FFI_Stream_Get(&args)) {
    return {GpuStatus::kFailed, TakeMessage(frame.api, error)};
  }
  *stream = args.stream;
  return {};
}

GpuStatus TakeStep(const XLA_FFI_CallFrame& frame, bool emulated) {
  const GpuCallKernels lent = CurrentGpuKernels();
  const GpuCall call = DecodeGpuCall(frame);
  const GpuKernels* kernels =
      lent.find == nullptr
          ? nullptr
          : lent.find(call.rule.c_str(), call.variant, call.storage);
  if (kernels == nullptr) {
    return {GpuStatus::kUnsupported,
            "This build has no GPU kernels of " + call.rule + "."};
  }
  CallMemory memory(frame);
  GpuContext context;  // XLA has no place for an error of indices
  if (emulated) {
    context.allocate = [](int64_t, void**) -> GpuStatus { return {}; };
  } else {
    const GpuStatus status = StreamOf(frame, &context.stream);
    if (!status.ok()) return status;
    context.allocate = [&](int64_t bytes, void** lent_memory) {
      return memory.Allocate(bytes, lent_memory);
    };
  }
  return call.sparse
             ? kernels->sparse(call.items, call.of_sparse, call.step, context)
             : kernels->dense(call.items, call.step, context);
}

XLA_FFI_Error_Code CodeOf(const GpuStatus& status) {
  switch (status.code) {
    case GpuStatus::kNoMemory:
      return XLA_FFI_Error_Code_RESOURCE_EXHAUSTED;
    case GpuStatus::kUnsupported:
      return XLA_FFI_Error_Code_FAILED_PRECONDITION;
    default:
      return XLA_FFI_Error_Code_INTERNAL;
  }
}

template <bool emulated>
XLA_FFI_Error* RunGpuCall(XLA_FFI_CallFrame* frame) {
  if (AnswerMetadata(*frame)) return nullptr;
  GpuStatus status;
  try {
    status = TakeStep(*frame, emulated);
  } catch (const std::exception& error) {  // no memory on the host
    status = {GpuStatus::kNoMemory, error.what()};
  }
  if (status.ok()) return nullptr;
  return MakeCallError(frame->api, CodeOf(status), status.message);
}

}  // namespace

void UseGpuKernels(FindGpuKernelsByName find, bool emulated) {
  const std::lock_guard<std::mutex> lock(mutex);
  current = {find, emulated};
  static bool registered[2] = {};
  if (find == nullptr || std::exchange(registered[emulated], true)) return;
  if (emulated) {
    RegisterCall(kGpuCallName, "Host", &RunGpuCall<true>);
  } else {
    RegisterCall(kGpuCallName, "CUDA", &RunGpuCall<false>);
  }
}

#else

void UseGpuKernels(FindGpuKernelsByName, bool) {}

#endif

}  // namespace tf_optim

// For library.py and tests.
extern "C" __attribute__((visibility("default"))) void tf_optim_use_gpu_kernels(
    tf_optim::FindGpuKernelsByName find, int emulated) {
  tf_optim::UseGpuKernels(find, emulated != 0);
}
