#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {

using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfOptim>SumRepeatedRows")
    .Input("grad: T")
    .Input("indices: Tindices")
    .Output("sum: T")
    .Output("rows: Tindices")
    .Attr("T: {float, double}")
    .Attr("Tindices: {int32, int64}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle grad, sum;
      TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(0), 1, &grad));
      TF_RETURN_IF_ERROR(c->ReplaceDim(grad, 0, c->UnknownDim(), &sum));
      c->set_output(0, sum);
      c->set_output(1, c->Vector(InferenceContext::kUnknownDim));
      return absl::OkStatus();
    })
    .Doc(R"doc(
A sparse gradient in which every row occurs once.

The gradients of a repeated index are added in the order of `indices`.

grad: [number of indices, ...].
indices: the row of each gradient, any number.
sum: [number of rows, ...].
rows: each of `indices` once, in ascending order.
)doc");

}  // namespace tf_optim
