// One step on NumPy arrays: checks them and calls the rule's step.
#ifndef TF_OPTIM_CC_PYTHON_APPLY_H_
#define TF_OPTIM_CC_PYTHON_APPLY_H_

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace tf_optim {

namespace py = pybind11;

struct StepArguments {
  const py::list& var;
  const py::dict& slots;
  const py::list& grad;
  const py::dict& hyper;
  double learning_rate;
  int64_t iterations;
  const std::vector<double>& gradient_scale;
  double clip_value;  // 0: none
  const std::vector<double>& weight_decay;
  int threads;
  const std::string& isa;
  const py::object& indices;  // None: dense gradients
  const std::string& mode;
  const py::dict& flags;  // name to bool; those left out are false
  const std::vector<int64_t>& rounding_seeds;
  bool rounds_variables;
};

// Raises ValueError, before anything has changed.
void ApplyToArrays(const std::string& rule, const StepArguments& arguments);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_APPLY_H_
