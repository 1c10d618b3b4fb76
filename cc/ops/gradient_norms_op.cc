#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {

REGISTER_OP("TfOptim>GradientNorms")
    .Input("grad: N * T")
    .Input("indices: N_sparse * Tindices")
    .Output("squares: double")
    .Output("non_finite: int64")
    .Output("rows_touched: int64")
    .Output("sorted_ids: N_sparse * uint64")
    .Attr("N: int >= 1")
    .Attr("N_sparse: int >= 0")
    .Attr("T: {float, double, half, bfloat16}")
    .Attr("Tindices: {int32, int64} = DT_INT64")
    .Attr("rows: list(int)")
    .SetShapeFn([](::tensorflow::shape_inference::InferenceContext* c) {
      int count = 0, sparse = 0;
      TF_RETURN_IF_ERROR(c->GetAttr("N", &count));
      TF_RETURN_IF_ERROR(c->GetAttr("N_sparse", &sparse));
      c->set_output(0, c->Vector(count));
      c->set_output(1, c->Vector(count));
      c->set_output(2, c->Vector(sparse));
      for (int i = 0; i < sparse; ++i) {
        c->set_output(3 + i, c->Vector(c->UnknownDim()));
      }
      return absl::OkStatus();
    })
    .Doc(R"doc(
What a step has to know of its gradients before it begins, in one pass over them.

Sums of squares are made in double, where the square of no float overflows. Gradients
of repeated indices are summed first, in their order and in the computation type,
float32 for 16 bits. What belongs to an index outside its variable counts for nothing:
the step itself finds it. The result has the same bits for any number of threads and
any instruction set (not under XLA); denormals are flushed to zero.

grad: gradients of any shapes; the last N_sparse are the rows of sparse gradients,
  [number of indices, ...].
indices: the index of each such row.
squares: the sum of squares of each gradient.
non_finite: how many elements of each are infinite or NaN, repeated indices summed.
rows_touched: how many different indices each sparse gradient has.
sorted_ids: the indices of each sparse gradient in ascending order, equal ones as they
  come: index << bits | position, where `bits` are as many as can write each value below
  the number of indices. Empty where an index is outside its variable, and under XLA.
rows: how many rows the variable of each sparse gradient has.
N: how many gradients there are.
N_sparse: how many of them are sparse.
)doc");

}  // namespace tf_optim
