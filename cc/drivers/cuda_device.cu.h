// Runs the bodies of the GPU drivers on a GPU: nvcc only.
#ifndef TF_OPTIM_CC_DRIVERS_CUDA_DEVICE_CU_H_
#define TF_OPTIM_CC_DRIVERS_CUDA_DEVICE_CU_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "cc/drivers/cuda_sort.h"
#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_table.h"

namespace tf_optim {

// Adds up the sums of each `lanes` neighbouring threads, in an order that is
// the same every time; every one of them gets the total. All threads of the
// block must call it, with the same `lanes`, once in a kernel.
template <class Sums>
__device__ void AddUp(int lanes, Sums* sums) {
  constexpr int kWarps = kGpuThreads / kWarp;
  __shared__ double of_warps[kWarps][Sums::kCount];
  __syncwarp();  // what a lane has read, another may write from here on
  for (int step = min(lanes, kWarp) / 2; step > 0; step /= 2) {
    for (int i = 0; i < Sums::kCount; ++i) {
      sums->values[i] += __shfl_xor_sync(0xffffffffu, sums->values[i], step);
    }
  }
  __syncwarp();
  if (lanes <= kWarp) return;
  if (threadIdx.x % kWarp == 0) {
    for (int i = 0; i < Sums::kCount; ++i) {
      of_warps[threadIdx.x / kWarp][i] = sums->values[i];
    }
  }
  __syncthreads();
  for (int i = 0; i < Sums::kCount; ++i) {
    double total = 0;
    for (int warp = 0; warp < kWarps; ++warp) total += of_warps[warp][i];
    sums->values[i] = total;
  }
}

// The body is in constant memory: nobody copies its table.
template <class Body>
__global__ void __launch_bounds__(kGpuThreads)
    RunBody(const __grid_constant__ Body body) {
  body(blockIdx.x, static_cast<int>(threadIdx.x));
}

template <class Body>
__global__ void __launch_bounds__(kGpuThreads)
    RunMeasure(const __grid_constant__ Body body) {
  auto sums = body.Measure(blockIdx.x, static_cast<int>(threadIdx.x));
  AddUp(kGpuThreads, &sums);
  if (threadIdx.x == 0) body.Store(blockIdx.x, sums);
}

template <class Body>
__global__ void __launch_bounds__(kGpuThreads)
    RunRowMeans(const __grid_constant__ Body body) {
  auto state = body.Start(blockIdx.x, static_cast<int>(threadIdx.x));
  auto sums = body.MeasureRow(&state);
  AddUp(body.Lanes(blockIdx.x), &sums);
  body.UpdateRow(&state, sums);
}

// Puts work on one stream. After the first error it does nothing more.
class CudaDevice {
 public:
  explicit CudaDevice(const GpuContext& context) : context_(context) {}

  const std::string& error() const { return error_; }

  template <class X>
  X* Allocate(int64_t count) {
    return static_cast<X*>(AllocateBytes(std::max<int64_t>(1, count) *
                                         static_cast<int64_t>(sizeof(X))));
  }

  template <class Body>
  void Launch(const Body& body, int64_t blocks) {
    LaunchAs(&RunBody<Body>, body, blocks);
  }

  template <class Body>
  void LaunchMeasure(const Body& body, int64_t blocks) {
    LaunchAs(&RunMeasure<Body>, body, blocks);
  }

  template <class Body>
  void LaunchRowMeans(const Body& body, int64_t blocks) {
    LaunchAs(&RunRowMeans<Body>, body, blocks);
  }

  // Stable, by the bits [begin, end). The result is in one of the two arrays.
  uint64_t* Sort(uint64_t* keys, uint64_t* other, int64_t count, int begin,
                 int end) {
    if (!error_.empty()) return keys;
    const SortRequest request = {keys, other, static_cast<int>(count), begin,
                                 end};
    size_t bytes = 0;
    Check(CudaSort(request, nullptr, &bytes, stream(), nullptr));
    // Never null, which would ask for the size once more.
    void* workspace =
        AllocateBytes(std::max<int64_t>(1, static_cast<int64_t>(bytes)));
    uint64_t* sorted = keys;
    if (!error_.empty()) return sorted;
    Check(CudaSort(request, workspace, &bytes, stream(), &sorted));
    return sorted;
  }

 private:
  cudaStream_t stream() const {
    return static_cast<cudaStream_t>(context_.stream);
  }

  void* AllocateBytes(int64_t bytes) {
    if (!error_.empty()) return nullptr;
    void* memory = context_.allocate(bytes);
    if (memory == nullptr) {
      error_ = "No device memory left for a step's workspace of " +
               std::to_string(bytes) + " bytes.";
    }
    return memory;
  }

  template <class Kernel, class Body>
  void LaunchAs(Kernel kernel, const Body& body, int64_t blocks) {
    static_assert(sizeof(Body) <= kKernelParameterBytes);
    if (!error_.empty() || blocks == 0) return;
    if (blocks > kMaxGpuBlocks) {
      error_ = "A step must take at most " + std::to_string(kMaxGpuBlocks) +
               " blocks of threads. Received: " + std::to_string(blocks) + ".";
      return;
    }
    kernel<<<static_cast<unsigned>(blocks), kGpuThreads, 0, stream()>>>(body);
    Check(cudaGetLastError());
  }

  void Check(cudaError_t status) {
    if (status == cudaSuccess || !error_.empty()) return;
    error_ = std::string("CUDA: ") + cudaGetErrorString(status) + ".";
  }

  const GpuContext& context_;
  std::string error_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CUDA_DEVICE_CU_H_
