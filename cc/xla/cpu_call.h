// A function of ours that XLA calls on a CPU with its buffers and its threads.
//
// It reads XLA's C interface, which has been the same since TensorFlow 2.18;
// XLA's own C++ over it came with 2.20.
#ifndef TF_OPTIM_CC_XLA_CPU_CALL_H_
#define TF_OPTIM_CC_XLA_CPU_CALL_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "cc/kernels/share.h"
#include "xla/ffi/api/c_api.h"

namespace tf_optim {

// An array of XLA's, row-major.
class CallBuffer {
 public:
  explicit CallBuffer(const XLA_FFI_Buffer& buffer) : buffer_(&buffer) {}

  void* data() const { return buffer_->data; }
  XLA_FFI_DataType type() const { return buffer_->dtype; }
  int64_t rank() const { return buffer_->rank; }
  int64_t size(int64_t dimension) const { return buffer_->dims[dimension]; }
  int64_t element_count() const {
    int64_t count = 1;
    for (int64_t i = 0; i < rank(); ++i) count *= size(i);
    return count;
  }

 private:
  const XLA_FFI_Buffer* buffer_;
};

class CallBuffers {
 public:
  CallBuffers(size_t size, void* const* buffers)
      : size_(size), buffers_(buffers) {}

  size_t size() const { return size_; }
  CallBuffer operator[](size_t i) const {
    return CallBuffer(*static_cast<const XLA_FFI_Buffer*>(buffers_[i]));
  }

 private:
  size_t size_;
  void* const* buffers_;
};

using CallFunction = void (*)(const CallBuffers& inputs,
                              const CallBuffers& results,
                              const ParallelFor& parallel_for);
using CallHandler = XLA_FFI_Error* (*)(XLA_FFI_CallFrame*);

// False before TensorFlow 2.18.
bool XlaCanCall();

// Calls `function`, which may throw, with what XLA has passed.
XLA_FFI_Error* RunCpuCall(XLA_FFI_CallFrame* frame, CallFunction function);

void RegisterCpuCall(const std::string& name, CallHandler handler);

// Makes Function::Call known to XLA by Function::Name(), once, and returns
// that.
template <class Function>
const std::string& CpuCallTarget() {
  static const std::string* const target = [] {
    const auto* name = new std::string(Function::Name());
    RegisterCpuCall(*name, [](XLA_FFI_CallFrame* frame) {
      return RunCpuCall(frame, &Function::Call);
    });
    return name;
  }();
  return *target;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_CPU_CALL_H_
