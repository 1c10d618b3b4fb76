// The instruction sets a rule is compiled for, and the one this machine uses.
#ifndef TF_OPTIM_CC_CPU_ISA_H_
#define TF_OPTIM_CC_CPU_ISA_H_

#include <string>
#include <vector>

namespace tf_optim {

enum class Isa { kScalar, kBaseline, kAvx2, kAvx512 };

const char* IsaName(Isa isa);

// Those this machine can run, the plainest first.
const std::vector<Isa>& UsableIsas();

// The best of them; the environment variable TF_OPTIM_ISA names another one.
// Raises std::runtime_error if that is not among the usable.
Isa ChosenIsa();

// The usable one of that name ("" is ChosenIsa()), or std::runtime_error.
Isa IsaNamed(const std::string& name);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_ISA_H_
