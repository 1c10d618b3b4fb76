#include "cc/rules/adam.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(AdamVariants());

}  // namespace
}  // namespace tf_optim
