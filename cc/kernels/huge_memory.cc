#include "cc/kernels/huge_memory.h"

#include <cerrno>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tf_optim {

HugePart::HugePart(const tensorflow::Tensor& tensor) {
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data());
  first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  last = (begin + tensor.TotalBytes()) / kHugePage * kHugePage;
}

bool Advise(uintptr_t address, uintptr_t size, int advice) {
#if defined(__linux__)
  return madvise(reinterpret_cast<void*>(address), size, advice) == 0;
#else
  errno = EINVAL;
  return false;
#endif
}

void AskForHugePages(const tensorflow::Tensor& tensor) {
  if (tensor.TotalBytes() < kLeastHuge) return;
  const HugePart part(tensor);
  if (part.first < part.last) {
    Advise(part.first, part.last - part.first, kAdviseHuge);
  }
}

}  // namespace tf_optim
