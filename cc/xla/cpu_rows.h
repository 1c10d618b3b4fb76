// Rows moved by our own loops: on a CPU, XLA sorts by comparing and scatters a
// row at a time in a loop of many small calls. These are calls out of the
// computation to the functions that do it in one.
#ifndef TF_OPTIM_CC_XLA_CPU_ROWS_H_
#define TF_OPTIM_CC_XLA_CPU_ROWS_H_

#include <cstdint>

#include "xla/hlo/builder/xla_builder.h"

namespace tf_optim {

// What the ids of a sparse gradient come to, sorted: int64, one per id.
struct SortedRows {
  xla::XlaOp order;  // where each stood among the ids
  xla::XlaOp run;    // the place of its sum
  xla::XlaOp row;    // the table's row that each place stands for
};

// `ids` are int64 in [0, end]; `end` is no row, and that of places without one.
SortedRows SortOnCpu(xla::XlaOp ids, int64_t end);

// Adds gradients[order[i]] to the place run[i], in the order of i.
xla::XlaOp SumOnCpu(xla::XlaOp gradients, const SortedRows& sorted);

// The table, in its own memory, with `updates` at the rows; rows outside of it
// are left out.
xla::XlaOp ScatterOnCpu(xla::XlaOp table, xla::XlaOp row, xla::XlaOp updates);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_CPU_ROWS_H_
