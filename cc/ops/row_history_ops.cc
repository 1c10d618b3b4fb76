// The ops of sparse_update="exact" besides a table's step itself.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {
namespace {

using ::tensorflow::shape_inference::InferenceContext;

absl::Status NoOutputs(InferenceContext*) { return absl::OkStatus(); }

}  // namespace

REGISTER_OP("TfOptim>RowHistory")
    .Output("history: resource")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Makes the history of one table: which of its optimizer's steps each row has seen.

history: lives as long as this handle or a copy of it.
)doc");

REGISTER_OP("TfOptim>CatchUpRows")
    .Input("history: resource")
    .Input("var: resource")
    .Input("indices: Tindices")
    .Attr("Tindices: {int32, int64}")
    .SetIsStateful()
    .SetShapeFn(NoOutputs)
    .Doc(R"doc(
Does to rows what the steps that they missed would have done to them.

To be done before they are read. Before the first step there is nothing to do.

history: of the table.
var: the table: who reads it before this op in a program does so before it.
indices: rows, of any shape, repeated or not. One outside of the table is left to
  the op that reads it.
)doc");

REGISTER_OP("TfOptim>CatchUpAllRows")
    .Input("history: resource")
    .Input("var: resource")
    .SetIsStateful()
    .SetShapeFn(NoOutputs)
    .Doc(R"doc(
Brings a whole table up to date, in one pass over the rows that lie behind.

history: of the table.
var: the table: who reads it before this op in a program does so before it.
)doc");

REGISTER_OP("TfOptim>CheckRows")
    .Input("history: N * resource")
    .Input("indices: N * Tindices")
    .Attr("N: int >= 1")
    .Attr("Tindices: {int32, int64} = DT_INT64")
    .SetIsStateful()
    .SetShapeFn(NoOutputs)
    .Doc(R"doc(
Fails unless rows are up to date: else their gradients are of older values.

history: of each table.
indices: for each table the rows of its gradient.
N: how many tables.
)doc");

REGISTER_OP("TfOptim>AdvanceRows")
    .Input("history: N * resource")
    .Input("var: N * resource")
    .Input("slots: N_slots * resource")
    .Input("indices: N_indices * Tindices")
    .Input("learning_rate: Tlearning_rate")
    .Input("iterations: int64")
    .Input("hyper: double")
    .Input("weight_decay: double")
    .Input("average: N_average * resource")
    .Input("average_kept: double")
    .Attr("N: int >= 1")
    .Attr("N_slots: int >= 0")
    .Attr("N_average: int >= 0")
    .Attr("N_indices: int >= 0")
    .Attr("Tindices: {int32, int64} = DT_INT64")
    .Attr("Tlearning_rate: {float, double} = DT_FLOAT")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("optimizer: string")
    .Attr("slot_mask: int >= 0")
    .Attr("flags: int >= 0 = 0")
    .Attr("rounding_seeds: list(int) = []")
    .Attr("rounds_variables: bool = false")
    .SetIsStateful()
    .SetShapeFn(NoOutputs)
    .Doc(R"doc(
Counts a step that has updated rows of tables, for the rows that it has not.

history: of each table.
var: the tables.
slots: all slots of the first table that it has, then those of the second, ...
indices: for each table the rows of its gradient; an empty list for all rows.
learning_rate: of the step.
iterations: steps done before.
hyper: the step's hyperparameters, in the order of the optimizer's op.
weight_decay: one rate per table, or empty for 0.
average: the moving average of each table, of its shape and dtype, or empty. The
  rows' averages are updated here, of the idle rows when they are brought up to date:
  average = average_kept * average + (1 - average_kept) * var.
average_kept: a scalar in [0, 1].
N: how many tables.
T: the tables' dtype.
optimizer: its name in its ops.
slot_mask: bit i is set if slot i is there.
flags: bit i is set if flag i of the op is.
rounding_seeds: as the step's op has them.
rounds_variables: as well.
)doc");

REGISTER_OP("TfOptim>TouchedRows")
    .Input("history: resource")
    .Input("since: int64")
    .Output("rows: int64")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Vector(InferenceContext::kUnknownDim));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The rows of a table that a gradient has changed since a step.

history: of the table.
since: a number of the optimizer's steps. It is an error if the history began
  later.
rows: in order.
)doc");

}  // namespace tf_optim
