#include "@HEADER@"

#include "cc/python/rule_step.h"

namespace tf_optim {
namespace {

[[maybe_unused]] const bool bound = BindRule(@VARIANTS@());

}  // namespace
}  // namespace tf_optim
