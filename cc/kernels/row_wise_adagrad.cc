#include "cc/rules/row_wise_adagrad.h"

#include "cc/kernels/register.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool registered =
    RegisterCpuKernels(RowWiseAdagradVariants());

}  // namespace
}  // namespace tf_optim
