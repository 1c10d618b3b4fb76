// The rows that a sparse gradient names, inside XLA, where every shape is
// static: as many places as there are indices, of which repeated indices use
// one each and leave the rest empty.
//
// An index outside [0, rows) names no row: its gradient is dropped and nothing
// is written for it. XLA has no way to raise an error.
#ifndef TF_OPTIM_CC_XLA_SPARSE_ROWS_H_
#define TF_OPTIM_CC_XLA_SPARSE_ROWS_H_

#include <cstdint>
#include <vector>

#include "cc/values/xla_version.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace tf_optim {

// Rows whose number is known only when the step runs, as the most that there
// can be.
xla::XlaOp WithAllPlaces(xla::XlaOp rows);
// Their ids, in int64: those behind the last are -1, which is no row.
xla::XlaOp IdsOfAllPlaces(xla::XlaOp indices);

class SparseRows {
 public:
  SparseRows() = default;
  // `table` is the shape of the variable.
  SparseRows(xla::XlaOp indices, const tensorflow::TensorShape& table);

  // Whether there are no indices at all: then only Densify may be called.
  bool empty() const { return count_ == 0; }

  // One place per distinct index: first the sums of the [count, ...] gradients,
  // added in the order of `indices`, then the rows of each table.
  std::vector<xla::XlaOp> Read(xla::XlaOp gradients,
                               const std::vector<xla::XlaOp>& tables) const;
  // The equivalent gradient of the whole table.
  xla::XlaOp Densify(xla::XlaOp gradients) const;
  // Which places hold a row: [count] bool.
  xla::XlaOp IsUsed() const;
  // The table with those rows replaced.
  xla::XlaOp Scatter(xla::XlaOp table, xla::XlaOp rows) const;

 private:
  tensorflow::TensorShape table_;
  int64_t count_ = 0;  // of indices
  // Of the sorted ids, int64, one per id:
  xla::XlaOp order_;  // where each stood among the ids
  xla::XlaOp run_;    // the place of its sum
  xla::XlaOp row_;    // the table's row that each place stands for
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_SPARSE_ROWS_H_
