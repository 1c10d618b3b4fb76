// The memory of a step on a device.
//
// A step that finds no memory must not have changed anything. So its memory is
// one piece, and there before the first launch: a step's host code runs twice,
// first to measure, which adds up what it asks for and checks what can be
// checked, then to work.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_MEMORY_H_
#define TF_OPTIM_CC_DRIVERS_GPU_MEMORY_H_

#include <cstdint>
#include <utility>

#include "cc/drivers/gpu.h"

namespace tf_optim {

// What all devices have in common. After the first error they do nothing more.
class GpuMemory {
 public:
  explicit GpuMemory(const GpuContext& context) : context_(context) {}

  const GpuStatus& status() const { return status_; }
  bool ok() const { return status_.ok(); }
  bool measuring() const { return measuring_; }

  // Ends the measuring: from here on there is memory, or an error.
  void Allocate() {
    measuring_ = false;
    if (!ok() || bytes_ == 0) return;
    Check(context_.allocate(bytes_, &memory_));
    bytes_ = 0;
  }

 protected:
  const GpuContext& context() const { return context_; }

  void Check(GpuStatus status) {
    if (ok()) status_ = std::move(status);
  }

  // The next `bytes` of the step's memory; while it is measured, an address
  // that nobody may follow.
  void* Next(int64_t bytes) {
    char* base = measuring_ ? reinterpret_cast<char*>(kGpuAlignment)
                            : static_cast<char*>(memory_);
    void* next = base + bytes_;
    bytes_ += (bytes + kGpuAlignment - 1) / kGpuAlignment * kGpuAlignment;
    return next;
  }

 private:
  const GpuContext& context_;
  GpuStatus status_;
  bool measuring_ = true;
  int64_t bytes_ = 0;  // asked for so far
  void* memory_ = nullptr;
};

// Calls step(&device), twice.
template <class Device, class Step>
GpuStatus RunOnDevice(const GpuContext& context, const Step& step) {
  Device device(context);
  step(&device);
  device.Allocate();
  if (device.ok()) step(&device);
  return device.status();
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_MEMORY_H_
