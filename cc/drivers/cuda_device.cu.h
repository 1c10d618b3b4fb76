// Runs the bodies of the GPU drivers on a GPU: nvcc only.
#ifndef TF_OPTIM_CC_DRIVERS_CUDA_DEVICE_CU_H_
#define TF_OPTIM_CC_DRIVERS_CUDA_DEVICE_CU_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <type_traits>

#include "cc/drivers/cuda_sort.h"
#include "cc/drivers/cuda_status.h"
#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_memory.h"
#include "cc/drivers/gpu_table.h"

namespace tf_optim {

// Blocks that a multiprocessor must have room for, which bounds registers: 0
// leaves it to ptxas, whose choice fits most kernels. Of some it spills a
// number or two into memory to fit a third block in.
template <class Body, class = void>
inline constexpr int kMinGpuBlocks = 0;
template <class Body>
inline constexpr int
    kMinGpuBlocks<Body, std::enable_if_t<(Body::kMinGpuBlocks > 0)>> =
        Body::kMinGpuBlocks;

// Adds up the sums of each `lanes` neighbouring threads, in an order that is
// the same every time; every one of them gets the total. All threads of the
// block must call it, with the same `lanes`.
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
  __syncthreads();  // the sums of a call before have been read
  if (threadIdx.x % kWarp == 0) {
    for (int i = 0; i < Sums::kCount; ++i) {
      of_warps[threadIdx.x / kWarp][i] = sums->values[i];
    }
  }
  __syncthreads();
  const int warps = lanes / kWarp;
  const int first = static_cast<int>(threadIdx.x) / kWarp & ~(warps - 1);
  for (int i = 0; i < Sums::kCount; ++i) {
    double total = 0;
    for (int w = 0; w < warps; ++w) total += of_warps[first + w][i];
    sums->values[i] = total;
  }
}

// The body is in constant memory: nobody copies its table.
template <class Body>
__global__ void __launch_bounds__(kGpuThreads, kMinGpuBlocks<Body>)
    RunBody(const __grid_constant__ Body body) {
  body(blockIdx.x, static_cast<int>(threadIdx.x));
}

template <class Body>
__global__ void __launch_bounds__(kGpuThreads, kMinGpuBlocks<Body>)
    RunMeasure(const __grid_constant__ Body body) {
  auto sums = body.Measure(blockIdx.x, static_cast<int>(threadIdx.x));
  AddUp(kGpuThreads, &sums);
  if (threadIdx.x == 0) body.Store(blockIdx.x, sums);
}

template <class Body>
__global__ void __launch_bounds__(kGpuThreads, kMinGpuBlocks<Body>)
    RunRowMeans(const __grid_constant__ Body body) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = body.Lanes(blockIdx.x), turns = body.Turns(blockIdx.x);
  auto state = body.Start(blockIdx.x, thread);
  for (int turn = 0; turn < turns; ++turn) {
    body.Take(turn, thread, &state);
    auto sums = body.MeasureRow(&state);
    AddUp(lanes, &sums);
    body.UpdateRow(&state, sums);
  }
}

// Puts work on one stream. After the first error it does nothing more.
class CudaDevice : public GpuMemory {
 public:
  using GpuMemory::GpuMemory;

#if CUDART_VERSION >= 12010
  static constexpr int kParameterBytes = kLongParameterBytes;
#else
  static constexpr int kParameterBytes = kShortParameterBytes;
#endif

  // The runtime may be newer than the driver, within a major version.
  static bool TakesLongParameters() {
    static const bool takes = [] {
      int driver = 0;
      return cudaDriverGetVersion(&driver) == cudaSuccess && driver >= 12010;
    }();
    return takes;
  }

  template <class X>
  X* Take(int64_t count) {
    if (!ok()) return nullptr;
    return static_cast<X*>(
        Next(std::max<int64_t>(1, count) * static_cast<int64_t>(sizeof(X))));
  }

  template <class Body>
  void Launch(const Body& body, int64_t blocks) {
    LaunchAs<&RunBody<Body>>(body, blocks);
  }

  template <class Body>
  void LaunchMeasure(const Body& body, int64_t blocks) {
    LaunchAs<&RunMeasure<Body>>(body, blocks);
  }

  template <class Body>
  void LaunchRowMeans(const Body& body, int64_t blocks) {
    LaunchAs<&RunRowMeans<Body>>(body, blocks);
  }

  // Stable, by the bits [begin, end). The result is in one of the two arrays.
  uint64_t* Sort(uint64_t* keys, uint64_t* other, int64_t count, int begin,
                 int end) {
    if (!ok()) return keys;
    const SortRequest request = {keys, other, static_cast<int>(count), begin,
                                 end};
    size_t bytes = 0;
    Check(StatusOfCuda(CudaSort(request, nullptr, &bytes, stream(), nullptr)));
    // Never null, which would ask for the size once more.
    void* workspace = Take<char>(static_cast<int64_t>(bytes));
    uint64_t* sorted = keys;
    if (!ok() || measuring()) return sorted;
    Check(
        StatusOfCuda(CudaSort(request, workspace, &bytes, stream(), &sorted)));
    return sorted;
  }

 private:
  cudaStream_t stream() const {
    return static_cast<cudaStream_t>(context().stream);
  }

  template <auto kernel, class Body>
  void LaunchAs(const Body& body, int64_t blocks) {
    static_assert(sizeof(Body) <= kParameterBytes);
    if (!ok() || blocks == 0) return;
    if (measuring()) {
      Check(blocks > kMaxGpuBlocks ? TooManyBlocks(blocks) : Load<kernel>());
      return;
    }
    // The launch's own status: that of the last error may be another's.
    void* arguments[] = {const_cast<Body*>(&body)};
    Check(StatusOfCuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                                        dim3(static_cast<unsigned>(blocks)),
                                        dim3(kGpuThreads), arguments, 0,
                                        stream())));
  }

  // The runtime loads a kernel when it is first used. A card that it was not
  // built for, or has no memory for it, must show before the first launch.
  template <auto kernel>
  static GpuStatus Load() {
    static std::atomic<uint64_t> loaded{0};  // a bit per device
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess) return StatusOfCuda(error);
    const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
    if (loaded.load(std::memory_order_relaxed) & bit) return {};
    cudaFuncAttributes attributes;
    error = cudaFuncGetAttributes(&attributes,
                                  reinterpret_cast<const void*>(kernel));
    if (error == cudaSuccess) loaded.fetch_or(bit, std::memory_order_relaxed);
    return StatusOfCuda(error);
  }

  static GpuStatus TooManyBlocks(int64_t blocks) {
    return {GpuStatus::kFailed,
            "A step must take at most " + std::to_string(kMaxGpuBlocks) +
                " blocks of threads. Received: " + std::to_string(blocks) +
                "."};
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CUDA_DEVICE_CU_H_
