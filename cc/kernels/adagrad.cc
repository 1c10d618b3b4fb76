#include "cc/rules/adagrad.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered = RegisterCpuKernels(AdagradVariants());

}  // namespace
}  // namespace tf_optim
