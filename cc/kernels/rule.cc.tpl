#include "@HEADER@"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(@VARIANTS@());

}  // namespace
}  // namespace tf_optim
