#include <cuda_runtime.h>

#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "cc/cuda/memory.h"
#include "cc/drivers/cuda_status.h"
#include "cc/drivers/gpu_support.h"

namespace tf_optim {
namespace {

std::mutex mutex;

GpuStatus CheckThisDriver() {
  int driver = 0;
  cudaDriverGetVersion(&driver);  // 0 where there is none
  return CheckDriver(driver, CUDART_VERSION);
}

GpuStatus CheckDevice(int device) {
#ifdef __CUDA_ARCH_LIST__
  std::vector<int> built;
  for (int arch : {__CUDA_ARCH_LIST__}) built.push_back(arch / 10);
  int major = 0, minor = 0;
  GpuStatus status = StatusOfCuda(cudaDeviceGetAttribute(
      &major, cudaDevAttrComputeCapabilityMajor, device));
  if (!status.ok()) return status;
  status = StatusOfCuda(cudaDeviceGetAttribute(
      &minor, cudaDevAttrComputeCapabilityMinor, device));
  if (!status.ok()) return status;
  return CheckCapability(major * 10 + minor, built);
#else
  return {};  // nvcc before 11.5 does not say: a launch will
#endif
}

// What is freed stays with the process, or every step would ask the driver.
GpuStatus KeepMemoryOf(int device) {
  cudaMemPool_t pool;
  uint64_t all = ~uint64_t{0};
  const GpuStatus status =
      StatusOfCuda(cudaDeviceGetDefaultMemPool(&pool, device));
  if (!status.ok()) return status;
  return StatusOfCuda(
      cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all));
}

// make(device) of this thread's device, made once for each. No error of one
// device or moment is kept.
template <class Make>
GpuStatus OncePerDevice(std::map<int, bool>* done, const Make& make) {
  int device = 0;
  GpuStatus status = StatusOfCuda(cudaGetDevice(&device));
  if (!status.ok()) return status;
  const std::lock_guard<std::mutex> lock(mutex);
  bool& is_done = (*done)[device];
  if (!is_done) {
    status = make(device);
    is_done = status.ok();
  }
  return status;
}

}  // namespace

GpuStatus CheckThisGpu() {
  static const GpuStatus& driver = *new GpuStatus(CheckThisDriver());
  if (!driver.ok()) return driver;
  static auto* done = new std::map<int, bool>;
  return OncePerDevice(done, &CheckDevice);
}

GpuStatus CheckAllGpus() {
  GpuStatus status = CheckThisDriver();
  if (!status.ok()) return status;
  int count = 0;
  status = StatusOfCuda(cudaGetDeviceCount(&count));
  for (int device = 0; status.ok() && device < count; ++device) {
    status = CheckDevice(device);
  }
  return status;
}

GpuStatus CopyOnGpu(void* to, const void* from, int64_t bytes, void* stream) {
  return StatusOfCuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes),
                                      cudaMemcpyDeviceToDevice,
                                      static_cast<cudaStream_t>(stream)));
}

GpuStatus AllocateOnGpu(int64_t bytes, void* stream, void** memory) {
  static auto* kept = new std::map<int, bool>;
  // A device without pools has no such memory either, and says so below.
  OncePerDevice(kept, &KeepMemoryOf);
  *memory = nullptr;
  GpuStatus status = StatusOfCuda(cudaMallocAsync(
      memory, static_cast<size_t>(bytes), static_cast<cudaStream_t>(stream)));
  if (!status.ok()) {
    status.message +=
        " Asked for " + std::to_string(bytes) + " bytes, a step's workspace.";
  }
  return status;
}

GpuStatus FreeOnGpu(void* memory, void* stream) {
  if (memory == nullptr) return {};
  return StatusOfCuda(cudaFreeAsync(memory, static_cast<cudaStream_t>(stream)));
}

namespace {

std::deque<BadIndexReport*>& FreeReports() {
  static auto* reports = new std::deque<BadIndexReport*>;
  return *reports;
}

}  // namespace

GpuStatus NewBadIndexReport(OwnedReport* owned) {
  static int64_t generations = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  std::deque<BadIndexReport*>& reports = FreeReports();
  if (reports.empty()) {
    // The system gives whole pages.
    constexpr int kReports = 4096 / sizeof(BadIndexReport);
    void* memory = nullptr;
    const GpuStatus status = StatusOfCuda(
        cudaHostAlloc(&memory, kReports * sizeof(BadIndexReport),
                      cudaHostAllocMapped | cudaHostAllocPortable));
    if (!status.ok()) return status;
    for (int i = 0; i < kReports; ++i) {
      reports.push_back(new (static_cast<BadIndexReport*>(memory) + i)
                            BadIndexReport());
    }
  }
  // Not wiped: whoever is still in a queue has a lower generation.
  *owned = {reports.front(), ++generations};
  reports.pop_front();
  return {};
}

void DeleteBadIndexReport(const OwnedReport& owned) {
  if (owned.report == nullptr) return;
  const std::lock_guard<std::mutex> lock(mutex);
  FreeReports().push_back(owned.report);
}

}  // namespace tf_optim
