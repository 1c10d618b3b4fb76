// The instruction sets a rule is compiled for, and the one this machine uses.
#ifndef TF_OPTIM_CC_CPU_ISA_H_
#define TF_OPTIM_CC_CPU_ISA_H_

#include <string>
#include <vector>

namespace tf_optim {

// The kernels are in a library of their own, which is loaded once for all of
// ours. What this marks is what they call in it.
#define TFO_CPU_API __attribute__((visibility("default")))

enum class Isa { kScalar, kBaseline, kAvx2, kAvx512 };

TFO_CPU_API const char* IsaName(Isa isa);

// Those this machine can run, the plainest first.
TFO_CPU_API const std::vector<Isa>& UsableIsas();

// The best of them; the environment variable TF_OPTIM_ISA names another one.
// Raises std::runtime_error if that is not among the usable.
TFO_CPU_API Isa ChosenIsa();

// The usable one of that name ("" is ChosenIsa()), or std::runtime_error.
TFO_CPU_API Isa IsaNamed(const std::string& name);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_ISA_H_
