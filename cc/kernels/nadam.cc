#include "cc/rules/nadam.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(NadamVariants());

}  // namespace
}  // namespace tf_optim
