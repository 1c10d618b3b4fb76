// tf_optim._native: facts about this build, and the CPU kernels on plain NumPy
// arrays, so that they can be tested and measured without TensorFlow.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cc/cpu/isa.h"
#include "cc/python/apply.h"
#include "cc/python/limits_module.h"
#include "cc/rules/all_rules.h"

namespace py = pybind11;

namespace tf_optim {

extern const char* const kTensorFlowVersion;  // version.cc

namespace {

py::dict BuildInfo() {
  py::dict info;
  info["tensorflow"] = kTensorFlowVersion;
  info["compiler"] =
#if defined(__clang__)
      "clang " __clang_version__;
#else
      "g++ " __VERSION__;
#endif
  info["cuda"] = bool{TFO_CUDA};
  info["isa"] = IsaName(ChosenIsa());
  py::list isas;
  for (Isa isa : UsableIsas()) isas.append(IsaName(isa));
  info["isas"] = isas;
  return info;
}

template <class First, class... Rest>
py::dict Describe(Variants<First, Rest...>) {
  constexpr uint32_t in_all = (SlotMask<First>() & ... & SlotMask<Rest>());
  py::list hyper, slots;
  for (const char* name : First::kHyperNames) hyper.append(name);
  py::list ranges;
  for (const Range& range : First::kHyperRanges) {
    ranges.append(py::make_tuple(range.low, range.high, range.closed));
  }
  for (size_t i = 0; i < kSlotFields<First>; ++i) {
    py::dict slot;
    slot["name"] = First::kSlotNames[i];
    slot["optional"] = (in_all >> i & 1) == 0;
    slot["per_row"] = IsRowSlot<First>(i);
    slot["positive"] = IsPositiveSlot<First>(i);
    slots.append(slot);
  }
  py::dict out;
  out["hyper"] = hyper;
  out["ranges"] = ranges;
  out["slots"] = slots;
  py::list flags;
  for (const char* name : First::kFlagNames) flags.append(name);
  out["flags"] = flags;
  out["per_step"] = First::kHyperPerStep;
  out["needs_whole_table"] = First::kMeansOver == Over::kVariable;
  return out;
}

py::dict Rules() {
  py::dict out;
  ForEachOptimizer([&](auto variants) {
    out[decltype(variants)::kName] = Describe(variants);
  });
  return out;
}

// Runs f(variants) for the optimizer of that name.
template <class F>
void VisitOptimizer(const std::string& name, F&& f) {
  std::string names;
  bool found = false;
  ForEachOptimizer([&](auto variants) {
    const std::string candidate = decltype(variants)::kName;
    names += (names.empty() ? "" : ", ") + candidate;
    if (candidate == name) {
      found = true;
      f(variants);
    }
  });
  if (!found) {
    throw py::value_error("rule must be one of " + names +
                          ". Received: " + name + ".");
  }
}

void Apply(const std::string& rule, const py::list& var, const py::dict& slots,
           const py::list& grad, const py::dict& hyper, double learning_rate,
           int64_t iterations, const std::vector<double>& gradient_scale,
           double clip_value, const std::vector<double>& weight_decay,
           int threads, const std::string& isa, const py::object& indices,
           const std::string& mode, const py::dict& flags,
           const std::vector<int64_t>& rounding_seeds, bool rounds_variables) {
  const StepArguments arguments = {var,
                                   slots,
                                   grad,
                                   hyper,
                                   learning_rate,
                                   iterations,
                                   gradient_scale,
                                   clip_value,
                                   weight_decay,
                                   threads,
                                   isa,
                                   indices,
                                   mode,
                                   flags,
                                   rounding_seeds,
                                   rounds_variables};
  VisitOptimizer(rule,
                 [&](auto variants) { ApplyToArrays(variants, arguments); });
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Build facts and the CPU kernels on NumPy arrays.";
  m.def("build_info", &BuildInfo, "What this build was made of and for.");
  m.def("rules", &Rules, "What the ops of each optimizer take.");
  m.def(
      "isas",
      [] {
        std::vector<std::string> names;
        for (Isa isa : UsableIsas()) names.push_back(IsaName(isa));
        return names;
      },
      "The instruction sets that this machine can run.");

  limits::DefineLimits(m);

  using py::arg;
  const py::list no_list;
  m.def(
      "dense_apply",
      [](const std::string& rule, const py::list& var, const py::dict& slots,
         const py::list& grad, const py::dict& hyper, double learning_rate,
         int64_t iterations, const std::vector<double>& gradient_scale,
         double clip_value, const std::vector<double>& weight_decay,
         int threads, const std::string& isa, const py::dict& flags,
         const std::vector<int64_t>& rounding_seeds, bool rounds_variables) {
        Apply(rule, var, slots, grad, hyper, learning_rate, iterations,
              gradient_scale, clip_value, weight_decay, threads, isa,
              py::none(), "dense", flags, rounding_seeds, rounds_variables);
      },
      "One step with dense gradients, in place.", arg("rule"), arg("var"),
      arg("slots"), arg("grad"), arg("hyper"), arg("learning_rate"),
      arg("iterations"), arg("gradient_scale") = std::vector<double>(),
      arg("clip_value") = 0.0, arg("weight_decay") = std::vector<double>(),
      arg("threads") = 1, arg("isa") = "", arg("flags") = py::dict(),
      arg("rounding_seeds") = std::vector<int64_t>(),
      arg("rounds_variables") = false);
  m.def(
      "sparse_apply",
      [](const std::string& rule, const py::list& var, const py::dict& slots,
         const py::list& grad, const py::list& indices, const py::dict& hyper,
         double learning_rate, int64_t iterations,
         const std::vector<double>& gradient_scale, double clip_value,
         const std::vector<double>& weight_decay, const std::string& mode,
         int threads, const std::string& isa, const py::dict& flags,
         const std::vector<int64_t>& rounding_seeds, bool rounds_variables) {
        Apply(rule, var, slots, grad, hyper, learning_rate, iterations,
              gradient_scale, clip_value, weight_decay, threads, isa, indices,
              mode, flags, rounding_seeds, rounds_variables);
      },
      "One step with sparse gradients, in place; repeated ids are summed.",
      arg("rule"), arg("var"), arg("slots"), arg("grad"), arg("indices"),
      arg("hyper"), arg("learning_rate"), arg("iterations"),
      arg("gradient_scale") = std::vector<double>(), arg("clip_value") = 0.0,
      arg("weight_decay") = std::vector<double>(), arg("mode") = "lazy",
      arg("threads") = 1, arg("isa") = "", arg("flags") = py::dict(),
      arg("rounding_seeds") = std::vector<int64_t>(),
      arg("rounds_variables") = false);
}

}  // namespace tf_optim
