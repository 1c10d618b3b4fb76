#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {

using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfOptim>AccumulateRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("kept: N * resource")
    .Input("grad: N * T")
    .Input("indices: N * int64")
    .Input("iterations: int64")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Adds sparse gradients to the sums of a window, and remembers which rows they named.

The sum of a table is its accumulator and the gradients that are kept behind it. A
gradient is kept as it is while those of the window take at most half of the
accumulator's memory; else all of them are added to the accumulator.
Every check comes before the first write: an index outside its accumulator is an error.

accumulator: variables of type T, [rows, ...].
touched: for each an int64 variable of any length: the value of `iterations` at which it
  is right, how many rows it names, how many of these have a kept gradient, whether
  gradients may be kept (0 or 1), the rows' numbers (a row may occur more than once;
  those of kept gradients come last), and room for more. Where its first number is
  another one its rows are not all, and the number becomes -1.
kept: for each a variable of type T, [any number, ...], of which the kept gradients
  come first.
grad: [number of indices, ...].
indices: the row of each gradient.
iterations: steps done before.
N: how many accumulators.
)doc");

REGISTER_OP("TfOptim>AccumulatedRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("kept: N * resource")
    .Input("grad: N * T")
    .Input("indices: N * int64")
    .Input("iterations: int64")
    .Output("rows: N * int64")
    .Output("sum: N * T")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      int count = 0;
      TF_RETURN_IF_ERROR(c->GetAttr("N", &count));
      for (int i = 0; i < count; ++i) {
        ShapeHandle grad = c->input(3 * count + i), sum = c->UnknownShape();
        c->set_output(i, c->Vector(InferenceContext::kUnknownDim));
        if (c->RankKnown(grad) && c->Rank(grad) > 0) {
          TF_RETURN_IF_ERROR(c->ReplaceDim(grad, 0, c->UnknownDim(), &sum));
        }
        c->set_output(count + i, sum);
      }
      return absl::OkStatus();
    })
    .Doc(R"doc(
The sums of a window and of one more sparse gradient, as sparse gradients.

No sum changes, but kept gradients may be added to their accumulator.

accumulator: as in AccumulateRows.
touched: as in AccumulateRows; where it is not right, rows that are not zero are looked
  for.
kept: as in AccumulateRows.
grad: [number of indices, ...].
indices: the row of each gradient.
iterations: steps done before.
rows: the rows' numbers. A row occurs more than once if its gradients are all kept:
  then these are given as they came.
sum: what belongs to these rows.
N: how many accumulators.
)doc");

REGISTER_OP("TfOptim>AddKeptRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("kept: N * resource")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Adds kept gradients to their accumulators, which are then the sums of the window.

accumulator: as in AccumulateRows.
touched: as in AccumulateRows.
kept: as in AccumulateRows.
N: how many accumulators.
T: the accumulators' type.
)doc");

REGISTER_OP("TfOptim>ClearAccumulatedRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("kept: N * resource")
    .Input("rows: N * int64")
    .Input("iterations: int64")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Ends a window: sets rows of accumulators to zero, and `touched` to none from the next
step on.

accumulator: as in AccumulateRows.
touched: as in AccumulateRows.
kept: as in AccumulateRows.
rows: the numbers of all rows that are not zero, as AccumulatedRows gives them.
iterations: steps done before.
N: how many accumulators.
T: the accumulators' type.
)doc");

REGISTER_OP("TfOptim>AddToAccumulator")
    .Input("accumulator: resource")
    .Input("touched: resource")
    .Input("is_known: bool")
    .Input("grad: T")
    .Input("indices: int64")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Adds a sparse gradient to an accumulator and remembers its rows. Under XLA alone, where
no shape may change; ids outside of the accumulator are dropped.

accumulator: a variable of type T, [rows, ...].
touched: a bool variable, [rows]: which rows may not be zero.
is_known: a scalar. If it is false rows that are not zero are looked for first.
grad: [number of indices, ...].
indices: the row of each gradient.
)doc");

REGISTER_OP("TfOptim>ClearTouchedRows")
    .Input("accumulator: resource")
    .Input("touched: resource")
    .Input("after: T")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Sets the rows of an accumulator to zero that are touched, and `touched` to false. Under
XLA alone.

accumulator: as in AddToAccumulator.
touched: as in AddToAccumulator.
after: a scalar that is made from what the accumulator's reader has written. It is not
  used: XLA copies an accumulator unless it knows that its reader is done.
)doc");

REGISTER_OP("TfOptim>ClearAccumulators")
    .Input("accumulator: N * resource")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Sets accumulators to zero, in their own memory.

accumulator: variables of type T.
N: how many.
T: their type.
)doc");

}  // namespace tf_optim
