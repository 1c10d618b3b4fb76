#include "cc/rules/ftrl.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(FtrlVariants());

}  // namespace
}  // namespace tf_optim
