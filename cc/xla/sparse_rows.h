// The rows that a sparse gradient names, inside XLA, where every shape is
// static: as many places as there are indices, of which repeated indices use
// one each and leave the rest empty.
//
// An index outside [0, rows) names no row: its gradient is dropped and nothing
// is written for it. XLA has no way to raise an error.
#ifndef TF_OPTIM_CC_XLA_SPARSE_ROWS_H_
#define TF_OPTIM_CC_XLA_SPARSE_ROWS_H_

#include <cstdint>

#include "cc/xla/cpu_rows.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "xla/hlo/builder/xla_builder.h"

namespace tf_optim {

class SparseRows {
 public:
  SparseRows() = default;
  // `table` is the shape of the variable; on a CPU, cpu_rows.h does the moving.
  SparseRows(xla::XlaOp indices, const tensorflow::TensorShape& table,
             bool on_cpu);

  // Whether there are no indices at all: then only Densify may be called.
  bool empty() const { return count_ == 0; }

  // [count, ...] gradients to [count, ...] sums, one place per distinct index,
  // added in the order of `indices`.
  xla::XlaOp SumDuplicates(xla::XlaOp gradients) const;
  // The equivalent gradient of the whole table.
  xla::XlaOp Densify(xla::XlaOp gradients) const;
  // The table's rows, one place per distinct index.
  xla::XlaOp Gather(xla::XlaOp table) const;
  // Which places hold a row: [count] bool.
  xla::XlaOp IsUsed() const;
  // The table with those rows replaced.
  xla::XlaOp Scatter(xla::XlaOp table, xla::XlaOp rows) const;

 private:
  tensorflow::TensorShape table_;
  bool on_cpu_ = false;
  int64_t count_ = 0;  // of indices
  SortedRows sorted_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_SPARSE_ROWS_H_
