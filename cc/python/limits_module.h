// limit_dense and limit_rows of the Python module: limits.h on NumPy arrays.
#ifndef TF_OPTIM_CC_PYTHON_LIMITS_MODULE_H_
#define TF_OPTIM_CC_PYTHON_LIMITS_MODULE_H_

#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cc/python/limits.h"
#include "pybind11/numpy.h"
#include "pybind11/pybind11.h"
#include "pybind11/stl.h"

namespace tf_optim {
namespace limits {

using FloatArray = pybind11::array_t<float, pybind11::array::c_style>;
using IdArray = pybind11::array_t<int64_t, pybind11::array::c_style>;

inline void CheckArgument(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

inline std::vector<Stream> Streams(const std::vector<FloatArray>& arrays) {
  std::vector<Stream> streams;
  for (const FloatArray& a : arrays)
    streams.push_back({const_cast<float*>(a.data()), a.size()});
  return streams;
}

// (backwards, [(rw arrays, ro arrays) of each variable])
using DensePassArrays = std::tuple<
    bool,
    std::vector<std::pair<std::vector<FloatArray>, std::vector<FloatArray>>>>;

inline double LimitDense(const std::vector<DensePassArrays>& passes,
                         int threads, int64_t block, int steps, int64_t ahead) {
  CheckArgument(threads >= 1 && block >= 1 && steps >= 1 && ahead >= 0,
                "threads, block and steps must be at least 1, and ahead at "
                "least 0. Received: "
                "threads=" +
                    std::to_string(threads) + ", block=" +
                    std::to_string(block) + ", steps=" + std::to_string(steps) +
                    ", ahead=" + std::to_string(ahead));
  std::vector<DensePass> made;
  for (const auto& [backwards, variables] : passes) {
    made.push_back({{}, backwards});
    for (const auto& [rw, ro] : variables) {
      CheckArgument(!rw.empty(), "rw must hold at least one array.");
      made.back().variables.push_back({Streams(rw), Streams(ro)});
    }
  }
  pybind11::gil_scoped_release nothing_of_python_is_touched;
  return DenseReadModifyWrite(made, block, threads, steps, ahead);
}

// The arrays' data, once every id is known to be a row of each.
inline std::vector<float*> Tables(const std::vector<FloatArray>& arrays,
                                  const Rows& rows, int dimensions) {
  std::vector<float*> tables;
  for (const FloatArray& table : arrays) {
    CheckArgument(table.ndim() == dimensions &&
                      (dimensions == 1 || table.shape(1) == rows.dim),
                  dimensions == 1
                      ? "every slot of a number per row must have 1 dimension."
                      : "every table must have " + std::to_string(rows.dim) +
                            " columns, as grad.");
    for (int64_t i = 0; i < rows.id_count; ++i)
      CheckArgument(rows.ids[i] >= 0 && rows.ids[i] < table.shape(0),
                    "ids[" + std::to_string(i) + "] must be in [0, " +
                        std::to_string(table.shape(0)) +
                        "). Received: " + std::to_string(rows.ids[i]));
    tables.push_back(const_cast<float*>(table.data()));
  }
  return tables;
}

// (rw tables, ro tables, slots of a number per row, grad, ids)
using RowsArrays = std::tuple<std::vector<FloatArray>, std::vector<FloatArray>,
                              std::vector<FloatArray>, FloatArray, IdArray>;

inline Rows CheckedRows(const RowsArrays& arrays) {
  const auto& [rw, ro, per_row, grad, ids] = arrays;
  CheckArgument(!rw.empty(), "rw must hold at least one array.");
  CheckArgument(grad.ndim() == 2 && ids.ndim() == 1,
                "grad must have 2 dimensions and ids 1. Received: " +
                    std::to_string(grad.ndim()) + " and " +
                    std::to_string(ids.ndim()));
  CheckArgument(
      ids.size() >= 1 && (grad.shape(0) == 0 || grad.shape(0) >= ids.size()),
      "grad must have a row for each of the ids, or none. Received: " +
          std::to_string(grad.shape(0)) + " rows for " +
          std::to_string(ids.size()) + " ids");
  Rows rows{{},         {},         {},          grad.shape(1),
            ids.data(), ids.size(), grad.data(), grad.shape(0)};
  rows.rw = Tables(rw, rows, 2);
  rows.ro = Tables(ro, rows, 2);
  rows.per_row = Tables(per_row, rows, 1);
  return rows;
}

inline double LimitRows(const std::vector<std::vector<RowsArrays>>& passes,
                        int threads, int distance) {
  CheckArgument(threads >= 1 && distance >= 0,
                "threads must be at least 1 and distance at least 0. "
                "Received: threads=" +
                    std::to_string(threads) +
                    ", distance=" + std::to_string(distance));
  std::vector<RowsPass> made;
  for (const auto& pass : passes) {
    made.emplace_back();
    for (const RowsArrays& table : pass)
      made.back().push_back(CheckedRows(table));
  }
  pybind11::gil_scoped_release nothing_of_python_is_touched;
  return RandomRows(made, distance, threads);
}

inline void DefineLimits(pybind11::module_& m) {
  namespace py = pybind11;
  // noconvert: a converted copy would be timed in place of the array itself.
  m.def("limit_dense", &LimitDense, py::arg("passes").noconvert(),
        py::arg("threads") = 1, py::arg("block") = 4096, py::arg("steps") = 1,
        py::arg("ahead") = 0,
        "Seconds that `steps` steps of passes take, each a tuple of "
        "`backwards` and its variables, (rw arrays, ro arrays): an in-place "
        "read-modify-write of the first, one read of the second.");
  m.def("limit_rows", &LimitRows, py::arg("passes").noconvert(),
        py::arg("threads") = 1, py::arg("distance") = 16,
        "Seconds that passes take, each a list of tables, (rw tables, ro "
        "tables, slots of a number per row, grad, ids): a read-modify-write "
        "of the rows ids of the first and of those slots, one read of the "
        "second and of grad.");
}

}  // namespace limits
}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_LIMITS_MODULE_H_
