// Packing and unpacking of whole slots, for one instruction set. No TensorFlow.
#ifndef TF_OPTIM_CC_CPU_PACKED_H_
#define TF_OPTIM_CC_CPU_PACKED_H_

#include "cc/cpu/kernels.h"
#include "cc/values/packed.h"

namespace tf_optim {

// Rows [begin, end) of `width` elements. The caller has denormals flushed: an
// object with a destructor here would be unwound by symbols that name no
// instruction set.
struct PackKernels {
  void (*pack)(const float* plain, int64_t width, bool is_signed, int64_t begin,
               int64_t end, uint8_t* packed);
  void (*unpack)(const uint8_t* packed, int64_t width, bool is_signed,
                 int64_t begin, int64_t end, float* plain);
};

template <class IsaTag>
struct PackTable {
  static const PackKernels& Get();
};

TFO_CPU_API const PackKernels& FindPackKernels(Isa isa);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_PACKED_H_
