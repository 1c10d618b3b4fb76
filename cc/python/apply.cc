#include "cc/python/apply.h"

#include <pybind11/numpy.h>

#include <map>
#include <utility>

#include "cc/python/threads.h"
#include "cc/rules/all_rules.h"
#include "cc/rules/traits.h"
#include "cc/steps/step.h"

namespace tf_optim {
namespace {

void Require(bool condition, const std::string& message) {
  if (!condition) throw py::value_error(message);
}

std::string DtypeName(const py::handle& array) {
  return py::str(array.attr("dtype").attr("name"));
}

int64_t SizeOf(const py::handle& array) {
  return py::reinterpret_borrow<py::array>(array).size();
}

// The memory of a C-contiguous array of the expected dtype and size.
void* Memory(const py::handle& object, const std::string& what,
             const std::string& dtype, int64_t size) {
  Require(py::isinstance<py::array>(object), what + " must be an ndarray.");
  auto array = py::reinterpret_borrow<py::array>(object);
  Require(DtypeName(array) == dtype, what + " must have dtype " + dtype +
                                         ". Received: " + DtypeName(array) +
                                         ".");
  Require(array.size() == size,
          what + " must have " + std::to_string(size) +
              " elements. Received: " + std::to_string(array.size()) + ".");
  Require(array.size() == 0 || (array.flags() & py::array::c_style),
          what + " must be C-contiguous.");
  return const_cast<void*>(array.data());
}

std::string At(const std::string& list, size_t i) {
  return list + "[" + std::to_string(i) + "]";
}

void RequirePerVariable(const char* name, const std::vector<double>& values,
                        size_t variables) {
  Require(values.empty() || values.size() == variables,
          std::string(name) + " must have " + std::to_string(variables) +
              " numbers or none. Received: " + std::to_string(values.size()) +
              ".");
}

double ListValue(const std::vector<double>& values, size_t i,
                 double otherwise) {
  return values.empty() ? otherwise : values.at(i);
}

const OptimizerTraits& RuleNamed(const std::string& name) {
  static const auto* const rules = [] {
    auto* const all = new std::map<std::string, OptimizerTraits>();
    ForEachOptimizer([&](auto variants) {
      all->emplace(decltype(variants)::kName, TraitsOf(variants));
    });
    return all;
  }();
  const auto found = rules->find(name);
  if (found != rules->end()) return found->second;
  std::string names;
  for (const auto& [each, rule] : *rules) {
    names += (names.empty() ? "" : ", ") + each;
  }
  throw py::value_error("rule must be one of " + names + ". Received: " + name +
                        ".");
}

Storage StorageNamed(const std::string& dtype) {
  if (dtype == "float32") return Storage::kFloat32;
  if (dtype == "float64") return Storage::kFloat64;
  if (dtype == "float16") return Storage::kFloat16;
  if (dtype == "bfloat16") return Storage::kBFloat16;
  throw py::value_error("var must be of a floating dtype. Received: " + dtype +
                        ".");
}

void CheckNumbers(const StepArguments& a) {
  Require(!a.var.empty(), "var must not be empty.");
  Require(a.iterations >= 0, "iterations must be >= 0. Received: " +
                                 std::to_string(a.iterations) + ".");
  Require(a.clip_value >= 0, "clip_value must be >= 0. Received: " +
                                 NumberText(a.clip_value) + ".");
  RequirePerVariable("gradient_scale", a.gradient_scale, a.var.size());
  RequirePerVariable("weight_decay", a.weight_decay, a.var.size());
  Require(a.rounding_seeds.empty() || a.rounding_seeds.size() == a.var.size(),
          "rounding_seeds must have a number per variable, or none.");
  for (size_t i = 0; i < a.weight_decay.size(); ++i) {
    Require(kNotNegative.Has(a.weight_decay[i]),
            RangeError(At("weight_decay", i), kNotNegative, a.weight_decay[i]));
  }
}

// The variant of a rule that has the slots and flags that are given.
uint32_t VariantOf(const OptimizerTraits& rule, const StepArguments& a) {
  uint32_t slot_mask = 0, flags = 0;
  for (size_t s = 0; s < rule.slots.size(); ++s) {
    if (a.slots.contains(rule.slots[s].c_str())) slot_mask |= 1u << s;
  }
  for (size_t f = 0; f < rule.flags.size(); ++f) {
    const char* name = rule.flags[f].c_str();
    if (a.flags.contains(name) && a.flags[name].cast<bool>()) flags |= 1u << f;
  }
  return VariantKey(slot_mask, flags);
}

std::vector<double> HyperOf(const OptimizerTraits& rule,
                            const py::dict& given) {
  std::vector<double> hyper;
  for (size_t i = 0; i < rule.hyper.size(); ++i) {
    const double value = given[rule.hyper[i].c_str()].cast<double>();
    Require(rule.ranges[i].Has(value),
            RangeError(rule.hyper[i], rule.ranges[i], value));
    hyper.push_back(value);
  }
  return hyper;
}

void FindSlots(const OptimizerTraits& rule, const StepArguments& a, size_t i,
               bool is_double, HostVariable* variable) {
  HostMemory* const memory = &variable->memory;
  const int64_t rows = variable->rows, size = variable->size;
  for (size_t s = 0; s < rule.slots.size(); ++s) {
    const char* const name = rule.slots[s].c_str();
    if (!a.slots.contains(name)) continue;
    const py::object array = py::list(a.slots[name])[i];
    const std::string what = At(name, i), dtype = DtypeName(array);
    const bool is_codes = dtype == "uint8";
    const bool is_row_slot = rule.IsRowSlot(s);
    if (is_row_slot || is_double || !(is_codes || dtype == "bfloat16")) {
      memory->SetSlot(s,
                      Memory(array, what, is_double ? "float64" : "float32",
                             is_row_slot ? rows : size),
                      SlotFormat::kPlain);
      continue;
    }
    const int64_t bytes = rows * PackedRow{memory->width}.bytes();
    memory->SetSlot(s, Memory(array, what, dtype, is_codes ? bytes : size),
                    is_codes ? SlotFormat::k8Bits : SlotFormat::kBFloat16);
  }
}

HostVariable VariableAt(const OptimizerTraits& rule, const StepArguments& a,
                        size_t i, const std::string& dtype) {
  HostVariable variable;
  variable.size = SizeOf(a.var[i]);
  variable.memory.var = Memory(a.var[i], At("var", i), dtype, variable.size);
  const auto array = py::reinterpret_borrow<py::array>(a.var[i]);
  variable.rows = array.ndim() > 0 ? array.shape(0) : 1;
  variable.memory.width = variable.rows > 0 ? variable.size / variable.rows : 0;
  FindSlots(rule, a, i, dtype == "float64", &variable);
  variable.gradient_scale = ListValue(a.gradient_scale, i, 1);
  variable.clip_value = a.clip_value;
  variable.decay = a.learning_rate * ListValue(a.weight_decay, i, 0);
  if (!a.rounding_seeds.empty()) {
    variable.rounding = RoundingOf(a.rounding_seeds[i], a.iterations);
  }
  return variable;
}

// The gradients' ids, if they are sparse.
void FindIndices(const StepArguments& a, HostStep* step) {
  Require(a.mode == "lazy" || a.mode == "dense",
          "mode must be 'lazy' or 'dense'. Received: " + a.mode + ".");
  step->mode = a.mode == "lazy" ? SparseMode::kLazy : SparseMode::kDense;
  const auto indices = py::reinterpret_borrow<py::list>(a.indices);
  step->indices_are_32_bits =
      !indices.empty() && DtypeName(indices[0]) == "int32";
  for (size_t i = 0; i < step->variables.size(); ++i) {
    const auto var = py::reinterpret_borrow<py::array>(a.var[i]);
    Require(var.ndim() >= 1, "var must have rows.");
    HostVariable& variable = step->variables[i];
    variable.count = SizeOf(indices[i]);
    variable.indices =
        Memory(indices[i], At("indices", i),
               step->indices_are_32_bits ? "int32" : "int64", variable.count);
  }
}

}  // namespace

void ApplyToArrays(const std::string& name, const StepArguments& a) {
  const OptimizerTraits& rule = RuleNamed(name);
  CheckNumbers(a);
  const std::string dtype = DtypeName(a.var[0]);
  const StepsOfRule* const steps =
      FindSteps(rule.name, VariantOf(rule, a), StorageNamed(dtype));
  Require(steps != nullptr, "slots must be a set that " + rule.name +
                                " has. Received another one.");
  HostStep step;
  step.hyper = HyperOf(rule, a.hyper);
  step.learning_rates = a.learning_rate;
  step.iterations = a.iterations;
  step.is_sparse = !a.indices.is_none();
  step.rounds_variables = a.rounds_variables;
  step.isa = IsaNamed(a.isa);
  step.parallel_for = ThreadsFor(a.threads);
  for (size_t i = 0; i < a.var.size(); ++i) {
    step.variables.push_back(VariableAt(rule, a, i, dtype));
  }
  if (step.is_sparse) FindIndices(a, &step);
  for (size_t i = 0; i < a.var.size(); ++i) {
    HostVariable& variable = step.variables[i];
    variable.grad =
        Memory(a.grad[i], At("grad", i), dtype,
               step.is_sparse ? variable.count * variable.memory.width
                              : variable.size);
  }

  BadIndex bad;
  {
    py::gil_scoped_release release;
    bad = TakeStep(*steps, step);
  }
  if (bad.item < 0) return;
  Require(false, At("indices", bad.position) + " of " + At("var", bad.item) +
                     " must be in [0, " +
                     std::to_string(step.variables[bad.item].rows) +
                     "). Received: " + std::to_string(IndexAt(step, bad)) +
                     ".");
}

}  // namespace tf_optim
