// One step on NumPy arrays: checks them and calls the CPU drivers.
#ifndef TF_OPTIM_CC_PYTHON_APPLY_H_
#define TF_OPTIM_CC_PYTHON_APPLY_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "cc/cpu/kernels.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sparse_cpu.h"

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

inline void Require(bool condition, const std::string& message) {
  if (!condition) throw py::value_error(message);
}

inline std::string DtypeName(const py::handle& array) {
  return py::str(array.attr("dtype").attr("name"));
}

// A thread per share: what TensorFlow's pool does, for use without it.
inline ParallelFor ThreadsFor(int threads) {
  return [threads](int64_t total, double,
                   const std::function<void(int64_t, int64_t)>& body) {
    if (threads <= 1 || total <= 1) {
      if (total > 0) body(0, total);
      return;
    }
    const int64_t block = std::max<int64_t>(1, total / (threads * 4));
    std::atomic<int64_t> next{0};
    std::vector<std::exception_ptr> errors(threads);
    const auto work = [&](int number) {
      try {
        for (int64_t begin; (begin = next.fetch_add(block)) < total;) {
          body(begin, std::min(total, begin + block));
        }
      } catch (...) {  // a thread has nobody to catch it
        errors[number] = std::current_exception();
      }
    };
    std::vector<std::thread> pool;
    pool.reserve(threads);
    try {
      for (int i = 1; i < threads; ++i) pool.emplace_back(work, i);
    } catch (const std::system_error&) {  // then there are fewer
    }
    work(0);
    for (std::thread& thread : pool) thread.join();
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  };
}

// The memory of a C-contiguous array of the expected dtype and size.
inline void* Memory(const py::handle& object, const std::string& what,
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

inline std::string At(const char* list, size_t i) {
  return std::string(list) + "[" + std::to_string(i) + "]";
}

inline void RequirePerVariable(const char* name,
                               const std::vector<double>& values,
                               size_t variables) {
  Require(values.empty() || values.size() == variables,
          std::string(name) + " must have " + std::to_string(variables) +
              " numbers or none. Received: " + std::to_string(values.size()) +
              ".");
}

inline double ListValue(const std::vector<double>& values, size_t i,
                        double otherwise) {
  if (values.empty()) return otherwise;
  return values.at(i);
}

template <class Rule, class T>
class ArrayStep {
 public:
  using C = ComputeType<T>;

  ArrayStep(const StepArguments& a, const CpuKernels<Rule, T>& kernels,
            std::string dtype)
      : a_(a),
        kernels_(kernels),
        dtype_(std::move(dtype)),
        compute_(sizeof(C) == 8 ? "float64" : "float32") {
    typename Rule::template Hyper<double> hyper;
    ForEachField(hyper, [&](auto i, double& value) {
      value = a.hyper[Rule::kHyperNames[i]].template cast<double>();
      const Range& range = Rule::kHyperRanges[i];
      Require(range.Has(value), RangeError(Rule::kHyperNames[i], range, value));
    });
    coefficients_ = PrepareAs<Rule, C>(
        hyper, {a.learning_rate, static_cast<double>(a.iterations) + 1});
  }

  void ApplyDense() {
    std::vector<DenseItem<Rule, T>> items;
    for (size_t i = 0; i < a_.var.size(); ++i) {
      const int64_t size = Size(a_.var[i]);
      items.push_back({At(i, size), Grad(i, size), size});
    }
    py::gil_scoped_release release;
    tf_optim::ApplyDense(&items, coefficients_, kernels_,
                         ThreadsFor(a_.threads));
  }

  template <class Index>
  void ApplySparse(const py::list& indices, const std::string& index_dtype) {
    Require(a_.mode == "lazy" || a_.mode == "dense",
            "mode must be 'lazy' or 'dense'. Received: " + a_.mode + ".");
    std::vector<SparseItem<Rule, T, Index>> items;
    for (size_t i = 0; i < a_.var.size(); ++i) {
      auto var = py::reinterpret_borrow<py::array>(a_.var[i]);
      Require(var.ndim() >= 1, "var must have rows.");
      const int64_t rows = var.shape(0);
      const Variable<Rule, T> variable = At(i, var.size());
      const int64_t count = Size(indices[i]);
      items.push_back(
          {variable, Grad(i, count * variable.width),
           static_cast<const Index*>(Memory(
               indices[i], tf_optim::At("indices", i), index_dtype, count)),
           count, rows});
    }
    py::gil_scoped_release release;
    const ParallelFor parallel_for = ThreadsFor(a_.threads);
    std::vector<IdSorter> sorters;
    const BadIndex bad = SortItems(items, parallel_for, &sorters);
    if (bad.item >= 0) {
      py::gil_scoped_acquire acquire;
      Require(false,
              tf_optim::At("indices", bad.position) + " of " +
                  tf_optim::At("var", bad.item) + " must be in [0, " +
                  std::to_string(items[bad.item].rows) + "). Received: " +
                  std::to_string(items[bad.item].indices[bad.position]) + ".");
    }
    tf_optim::ApplySparse(
        &items, sorters,
        a_.mode == "lazy" ? SparseMode::kLazy : SparseMode::kDense,
        coefficients_, kernels_, parallel_for);
  }

 private:
  static int64_t Size(const py::handle& array) {
    return py::reinterpret_borrow<py::array>(array).size();
  }

  const T* Grad(size_t i, int64_t size) {
    return static_cast<const T*>(
        Memory(a_.grad[i], tf_optim::At("grad", i), dtype_, size));
  }

  Variable<Rule, T> At(size_t i, int64_t size) {
    Variable<Rule, T> variable;
    variable.var = static_cast<T*>(
        Memory(a_.var[i], tf_optim::At("var", i), dtype_, size));
    const auto array = py::reinterpret_borrow<py::array>(a_.var[i]);
    const int64_t rows = array.ndim() > 0 ? array.shape(0) : 1;
    variable.width = rows > 0 ? size / rows : 0;
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      const char* name = Rule::kSlotNames[s];
      if (!(SlotMask<Rule>() >> s & 1)) continue;
      const py::object slot = py::list(a_.slots[name])[i];
      const std::string what = tf_optim::At(name, i), dtype = DtypeName(slot);
      const bool is_codes = dtype == "uint8";
      if (IsRowSlot<Rule>(s) || sizeof(C) == 8 ||
          !(is_codes || dtype == "bfloat16")) {
        variable.slots[s] = static_cast<C*>(
            Memory(slot, what, compute_, IsRowSlot<Rule>(s) ? rows : size));
        continue;
      }
      const int64_t bytes = rows * PackedRow{variable.width}.bytes();
      variable.format = is_codes ? SlotFormat::k8Bits : SlotFormat::kBFloat16;
      variable.packed[s] = static_cast<uint8_t*>(
          Memory(slot, what, dtype, is_codes ? bytes : size));
    }
    if (!a_.rounding_seeds.empty()) {
      variable.rounding = RoundingOf(a_.rounding_seeds.at(i), a_.iterations);
      variable.rounds_var = a_.rounds_variables;
    }
    SetTail(ListValue(a_.gradient_scale, i, 1), a_.clip_value,
            a_.learning_rate * ListValue(a_.weight_decay, i, 0), &variable);
    return variable;
  }

  const StepArguments& a_;
  const CpuKernels<Rule, T>& kernels_;
  std::string dtype_, compute_;
  CoefficientsOf<Rule, T> coefficients_;
};

template <class AllVariants, class Rule, class T>
void ApplyAs(const StepArguments& a, const std::string& dtype) {
  ArrayStep<Rule, T> step(a, FindKernels<AllVariants, Rule, T>(IsaNamed(a.isa)),
                          dtype);
  if (a.indices.is_none()) {
    step.ApplyDense();
    return;
  }
  const auto indices = py::reinterpret_borrow<py::list>(a.indices);
  const std::string index_dtype =
      indices.empty() ? "int64" : DtypeName(indices[0]);
  if (index_dtype == "int32") {
    step.template ApplySparse<int32_t>(indices, index_dtype);
  } else {
    step.template ApplySparse<int64_t>(indices, "int64");
  }
}

template <class... Rules>
void ApplyToArrays(Variants<Rules...> variants, const StepArguments& a) {
  using First = typename Variants<Rules...>::First;
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
  uint32_t slot_mask = 0;
  for (size_t s = 0; s < kSlotFields<First>; ++s) {
    if (a.slots.contains(First::kSlotNames[s])) slot_mask |= 1u << s;
  }
  uint32_t flags = 0;
  for (size_t f = 0; f < First::kFlagNames.size(); ++f) {
    const char* name = First::kFlagNames[f];
    if (a.flags.contains(name) && a.flags[name].template cast<bool>()) {
      flags |= 1u << f;
    }
  }
  const uint32_t variant = VariantKey(slot_mask, flags);
  const std::string dtype = DtypeName(a.var[0]);
  const bool found = VisitVariant(variants, variant, [&](auto rule) {
    using Rule = decltype(rule);
    using All = Variants<Rules...>;
    if (dtype == "float32") return ApplyAs<All, Rule, float>(a, dtype);
    if (dtype == "float64") return ApplyAs<All, Rule, double>(a, dtype);
    if (dtype == "float16") return ApplyAs<All, Rule, Float16>(a, dtype);
    if (dtype == "bfloat16") return ApplyAs<All, Rule, BFloat16>(a, dtype);
    Require(false, "var must be of a floating dtype. Received: " + dtype + ".");
  });
  Require(found, std::string("slots must be a set that ") + First::kName +
                     " has. Received another one.");
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_APPLY_H_
