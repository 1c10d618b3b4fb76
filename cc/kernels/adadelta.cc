#include "cc/rules/adadelta.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(AdadeltaVariants());

}  // namespace
}  // namespace tf_optim
