// The radix sort of the CUDA toolkit's CUB, compiled once for all rules.
#ifndef TF_OPTIM_CC_DRIVERS_CUDA_SORT_H_
#define TF_OPTIM_CC_DRIVERS_CUDA_SORT_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace tf_optim {

struct SortRequest {
  uint64_t* keys;
  uint64_t* other;  // as many
  int count;
  int begin_bit, end_bit;
};

// Sorts by the bits [begin_bit, end_bit), stably. With a null workspace it only
// says how many bytes of it are needed. `sorted` is set at once: which of the
// two arrays will hold the result.
cudaError_t CudaSort(const SortRequest& request, void* workspace, size_t* bytes,
                     cudaStream_t stream, uint64_t** sorted);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CUDA_SORT_H_
