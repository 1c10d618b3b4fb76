#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {

REGISTER_OP("TfOptim>CheckIndices")
    .Input("indices: N * Tindices")
    .Attr("N: int >= 1")
    .Attr("Tindices: {int32, int64}")
    .Attr("rows: list(int)")
    .SetIsStateful()  // it can fail, which is all it does
    .SetShapeFn([](::tensorflow::shape_inference::InferenceContext*) {
      return absl::OkStatus();
    })
    .Doc(R"doc(
Fails unless every index is a row of its variable.

A step over several dtypes takes several ops; this one keeps a wrong index in one
of them from leaving the work of the others behind. On a GPU it does nothing: the
indices are not on the host, and the steps check them where they are.

indices: the indices of each variable's sparse gradient, of any shape.
rows: how many rows each variable has; -1 leaves it unchecked.
N: how many variables.
)doc");

}  // namespace tf_optim
