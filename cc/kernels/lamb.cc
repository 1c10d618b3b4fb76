#include "cc/rules/lamb.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(LambVariants());

}  // namespace
}  // namespace tf_optim
