#include "cc/rules/adamax.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(AdamaxVariants());

}  // namespace
}  // namespace tf_optim
