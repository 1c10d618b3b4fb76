#include "cc/rules/rmsprop.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(RMSpropVariants());

}  // namespace
}  // namespace tf_optim
