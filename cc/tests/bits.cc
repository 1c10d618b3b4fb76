// Prints a number for the bits of every rule's steps, for each type and way of
// stepping: two machines whose lines are the same compute the same.
#include <cinttypes>
#include <cstdio>
#include <string>
#include <type_traits>

#include "cc/cpu/isa.h"
#include "cc/cpu/kernels.h"
#include "cc/rules/all_rules.h"
#include "cc/tests/lists.h"

namespace tf_optim {
namespace {

// FNV-1a.
class Digest {
 public:
  void Add(const void* data, int64_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (int64_t i = 0; i < size; ++i) {
      state_ = (state_ ^ bytes[i]) * 1099511628211u;
    }
  }
  uint64_t state() const { return state_; }

 private:
  uint64_t state_ = 14695981039346656037u;
};

template <class AllVariants, class Rule, class T>
void PrintSlots(const char* type, const char* slots, SlotStorage storage) {
  for (const Isa isa : {Isa::kScalar, Isa::kBaseline}) {
    const auto& kernels = FindKernels<AllVariants, Rule, T>(isa);
    for (const Kind kind : {Kind::kDense, Kind::kLazy, Kind::kAllRows}) {
      const auto list = Stepped<Rule, T>(kind, storage, kernels, /*threads=*/1);
      Digest digest;
      list->ForEachArray([&](const void* memory, int64_t bytes) {
        digest.Add(memory, bytes);
      });
      std::printf("%s %d %s %s %s %d %016" PRIx64 "\n", AllVariants::kName,
                  static_cast<int>(VariantKey<Rule>()), type, slots,
                  IsaName(isa), static_cast<int>(kind), digest.state());
    }
  }
}

template <class AllVariants, class Rule, class T>
void PrintStorage(const char* type) {
  PrintSlots<AllVariants, Rule, T>(type, "plain", {});
  if constexpr (std::is_same_v<ComputeType<T>, float>) {
    for (const uint64_t rounding : {0, 5}) {
      const bool draws = rounding != 0;
      PrintSlots<AllVariants, Rule, T>(type, draws ? "bfloat16?" : "bfloat16",
                                       {SlotFormat::kBFloat16, rounding});
      PrintSlots<AllVariants, Rule, T>(type, draws ? "8-bit?" : "8-bit",
                                       {SlotFormat::k8Bits, rounding});
    }
  }
}

template <class... Rules>
void PrintRules(Variants<Rules...>) {
  using All = Variants<Rules...>;
  (PrintStorage<All, Rules, float>("float32"), ...);
  (PrintStorage<All, Rules, double>("float64"), ...);
  (PrintStorage<All, Rules, Float16>("float16"), ...);
  (PrintStorage<All, Rules, BFloat16>("bfloat16"), ...);
}

}  // namespace
}  // namespace tf_optim

int main() {
  tf_optim::ForEachOptimizer(
      [](auto variants) { tf_optim::PrintRules(variants); });
}
