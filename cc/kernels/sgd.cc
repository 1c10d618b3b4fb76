#include "cc/rules/sgd.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(SGDVariants());

}  // namespace
}  // namespace tf_optim
