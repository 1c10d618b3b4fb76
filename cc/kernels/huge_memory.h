// Memory in huge pages, where the system has such.
#ifndef TF_OPTIM_CC_KERNELS_HUGE_MEMORY_H_
#define TF_OPTIM_CC_KERNELS_HUGE_MEMORY_H_

#include <cstdint>

#include "tensorflow/core/framework/tensor.h"

namespace tf_optim {

inline constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
// Smaller tensors are not worth the call.
inline constexpr size_t kLeastHuge = size_t{1} << 25;

// Memory that huge pages can hold: whole ones.
struct HugePart {
  explicit HugePart(const tensorflow::Tensor& tensor);
  uintptr_t first, last;
};

// madvise, by number: headers may be older than Linux.
bool Advise(uintptr_t address, uintptr_t size, int advice);
inline constexpr int kAdviseHuge = 14, kAdviseCollapse = 25;

// For a large tensor that nobody has touched yet: then the system gives huge
// pages at once. One that has none, or no such call, gives others.
void AskForHugePages(const tensorflow::Tensor& tensor);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_HUGE_MEMORY_H_
