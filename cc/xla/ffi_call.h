// XLA's C interface, as functions of ours see it that XLA calls.
//
// It has been the same since TensorFlow 2.18; XLA's own C++ over it came with
// 2.20.
#ifndef TF_OPTIM_CC_XLA_FFI_CALL_H_
#define TF_OPTIM_CC_XLA_FFI_CALL_H_

#include <cstddef>
#include <cstdint>
#include <string>

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

using CallHandler = XLA_FFI_Error* (*)(XLA_FFI_CallFrame*);

// False before TensorFlow 2.18. Then nothing below does anything.
bool XlaCanCall();

// XLA asks each function for the version that it was compiled for: answers, or
// returns false.
bool AnswerMetadata(const XLA_FFI_CallFrame& frame);

XLA_FFI_Error* MakeCallError(const XLA_FFI_Api* api, XLA_FFI_Error_Code code,
                             const std::string& message);

// An error of XLA's, in words; frees it.
std::string TakeMessage(const XLA_FFI_Api* api, XLA_FFI_Error* error);

// Makes a function known to XLA, for "Host" or "CUDA".
void RegisterCall(const std::string& name, const std::string& platform,
                  CallHandler handler);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_FFI_CALL_H_
