#include "cc/cpu/isa.h"

#include <cstdlib>
#include <stdexcept>

namespace tf_optim {

namespace {

std::vector<Isa> DetectIsas() {
  std::vector<Isa> isas = {Isa::kScalar, Isa::kBaseline};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
      __builtin_cpu_supports("bmi2");
  if (avx2) isas.push_back(Isa::kAvx2);
  if (avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    isas.push_back(Isa::kAvx512);
  }
#endif
  return isas;
}

}  // namespace

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kBaseline:
      return "baseline";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

const std::vector<Isa>& UsableIsas() {
  static const auto* isas = new std::vector<Isa>(DetectIsas());
  return *isas;
}

Isa IsaNamed(const std::string& name) {
  if (name.empty()) return ChosenIsa();
  std::string usable;
  for (Isa isa : UsableIsas()) {
    if (name == IsaName(isa)) return isa;
    usable += std::string(usable.empty() ? "" : ", ") + IsaName(isa);
  }
  throw std::runtime_error("The instruction set must be one of " + usable +
                           ". Received: " + name + ".");
}

Isa ChosenIsa() {
  // At the first call: a later getenv would race with a program that sets
  // variables.
  static const Isa chosen = [] {
    const char* wanted = std::getenv("TF_OPTIM_ISA");
    return wanted == nullptr || *wanted == '\0' ? UsableIsas().back()
                                                : IsaNamed(wanted);
  }();
  return chosen;
}

}  // namespace tf_optim
