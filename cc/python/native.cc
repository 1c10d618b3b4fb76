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
#include "cc/rules/traits.h"

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

py::dict Describe(const OptimizerTraits& rule) {
  py::list ranges, slots;
  for (const Range& range : rule.ranges) {
    ranges.append(py::make_tuple(range.low, range.high, range.closed));
  }
  for (size_t i = 0; i < rule.slots.size(); ++i) {
    py::dict slot;
    slot["name"] = rule.slots[i];
    slot["optional"] = rule.IsOptional(i);
    slot["per_row"] = rule.IsRowSlot(i);
    slot["positive"] = rule.IsPositiveSlot(i);
    slots.append(slot);
  }
  py::dict out;
  out["hyper"] = rule.hyper;
  out["ranges"] = ranges;
  out["slots"] = slots;
  out["flags"] = rule.flags;
  out["per_step"] = rule.hyper_per_step;
  out["needs_whole_table"] = rule.needs_whole_table;
  return out;
}

py::dict Rules() {
  py::dict out;
  ForEachOptimizer([&](auto variants) {
    const OptimizerTraits rule = TraitsOf(variants);
    out[rule.name.c_str()] = Describe(rule);
  });
  return out;
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
  ApplyToArrays(rule, arguments);
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
