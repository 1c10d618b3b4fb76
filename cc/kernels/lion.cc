#include "cc/rules/lion.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(LionVariants());

}  // namespace
}  // namespace tf_optim
