#include <cuda_runtime.h>

#include <mutex>
#include <new>
#include <vector>

#include "cc/cuda/memory.h"

namespace tf_optim {

std::string CopyOnGpu(void* to, const void* from, int64_t bytes, void* stream) {
  const cudaError_t status = cudaMemcpyAsync(
      to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
      static_cast<cudaStream_t>(stream));
  if (status == cudaSuccess) return "";
  return std::string("CUDA: ") + cudaGetErrorString(status) + ".";
}

void* AllocateOnGpu(int64_t bytes, void* stream) {
  // What is freed stays with the process, or every step would ask the driver.
  static const bool kept = [] {
    int device = 0;
    cudaMemPool_t pool;
    uint64_t all = ~uint64_t{0};
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetDefaultMemPool(&pool, device) == cudaSuccess &&
           cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold,
                                   &all) == cudaSuccess;
  }();
  static_cast<void>(kept);
  void* memory = nullptr;
  const cudaError_t status = cudaMallocAsync(
      &memory, static_cast<size_t>(bytes), static_cast<cudaStream_t>(stream));
  return status == cudaSuccess ? memory : nullptr;
}

void FreeOnGpu(void* memory, void* stream) {
  cudaFreeAsync(memory, static_cast<cudaStream_t>(stream));
}

namespace {

std::mutex reports_mutex;

std::vector<BadIndexReport*>& FreeReports() {
  static auto* reports = new std::vector<BadIndexReport*>;
  return *reports;
}

}  // namespace

BadIndexReport* NewBadIndexReport() {
  const std::lock_guard<std::mutex> lock(reports_mutex);
  void* memory = nullptr;
  if (!FreeReports().empty()) {
    memory = FreeReports().back();
    FreeReports().pop_back();
  } else if (cudaHostAlloc(&memory, sizeof(BadIndexReport),
                           cudaHostAllocMapped | cudaHostAllocPortable) !=
             cudaSuccess) {
    return nullptr;
  }
  return new (memory) BadIndexReport();
}

// Kept for the next one: to free it would be to wait for every device, since a
// kernel in its queue may still write there.
void DeleteBadIndexReport(BadIndexReport* report) {
  if (report == nullptr) return;
  const std::lock_guard<std::mutex> lock(reports_mutex);
  FreeReports().push_back(report);
}

}  // namespace tf_optim
