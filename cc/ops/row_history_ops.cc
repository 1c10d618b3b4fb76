// The ops of sparse_update="exact" besides a table's step itself.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {
namespace {

using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

absl::Status NoOutputs(InferenceContext*) { return absl::OkStatus(); }

absl::Status RowsOfTable(InferenceContext* c) {
  const auto* table = c->input_handle_shapes_and_types(1);
  ShapeHandle row, rows = c->UnknownShape();
  if (table != nullptr && !table->empty() && c->RankKnown((*table)[0].shape)) {
    TF_RETURN_IF_ERROR(c->Subshape((*table)[0].shape, 1, &row));
    TF_RETURN_IF_ERROR(c->Concatenate(c->input(2), row, &rows));
  }
  c->set_output(0, rows);
  return absl::OkStatus();
}

}  // namespace

REGISTER_OP("TfOptim>RowHistory")
    .Output("history: resource")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Scalar());
      // As a variable: what a loop asks of each resource that it passes on.
      c->set_output_handle_shapes_and_types(
          0, std::vector<tensorflow::shape_inference::ShapeAndType>{
                 {c->Scalar(), tensorflow::DT_INT64}});
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
    .Input("condition: bool")
    .Attr("closes: bool = false")
    .SetIsStateful()
    .SetShapeFn(NoOutputs)
    .Doc(R"doc(
Brings a whole table up to date, in one pass over the rows that lie behind.

history: of the table.
var: the table: who reads it before this op in a program does so before it.
condition: if it does not hold nothing is done.
closes: whether steps of some of the rows are errors from then on.
)doc");

REGISTER_OP("TfOptim>LookupRows")
    .Input("history: resource")
    .Input("var: resource")
    .Input("indices: Tindices")
    .Output("rows: T")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("Tindices: {int32, int64}")
    .SetIsStateful()
    .SetShapeFn(RowsOfTable)
    .Doc(R"doc(
Rows as TfOptim>CatchUpRows would make them, which nothing is written for.

So replicas that look different rows up stay the same, bit for bit.

history: of the table.
var: the table.
indices: rows, of any shape, repeated or not.
rows: [indices' shape, a row's shape].
)doc");

REGISTER_OP("TfOptim>IsCaughtUp")
    .Input("history: resource")
    .Output("is_caught_up: bool")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Whether all rows of a table are up to date.

history: of the table.
)doc");

REGISTER_OP("TfOptim>TouchedRows")
    .Input("history: resource")
    .Input("since: int64")
    .Output("rows: int64")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle since;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 0, &since));
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
