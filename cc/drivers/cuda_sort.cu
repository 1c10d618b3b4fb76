#include <cub/device/device_radix_sort.cuh>

#include "cc/drivers/cuda_sort.h"

namespace tf_optim {

cudaError_t CudaSort(const SortRequest& request, void* workspace, size_t* bytes,
                     cudaStream_t stream, uint64_t** sorted) {
  cudaGetLastError();  // CUB would take an older error for its own
  cub::DoubleBuffer<uint64_t> keys(request.keys, request.other);
  const cudaError_t status = cub::DeviceRadixSort::SortKeys(
      workspace, *bytes, keys, request.count, request.begin_bit,
      request.end_bit, stream);
  if (sorted != nullptr) *sorted = keys.Current();
  return status;
}

}  // namespace tf_optim
