// Registers TfOptim>PackSlot and TfOptim>UnpackSlot.
#include "cc/ops/packed_layout.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {
namespace {

using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfOptim>PackSlot")
    .Input("plain: float")
    .Output("packed: uint8")
    .Attr("is_signed: bool")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->UnknownShapeOfRank(2));
      return absl::OkStatus();
    })
    .Doc(R"doc(
A slot in 8 bits per element, rounded to nearest.

For each row (of the first dimension) a code per element, then a float32 scale per
block of 128 elements: the block's largest magnitude. A code is a share of it: 0,
or 2^-e * (1 + m / 8).

plain: a slot.
packed: [rows, bytes of a row].
is_signed: whether elements may be negative. Others reach down to 2^-31.5 of the
  largest, and what is not 0 does not become 0.
)doc");

REGISTER_OP("TfOptim>UnpackSlot")
    .Input("packed: uint8")
    .Output("plain: float")
    .Attr("is_signed: bool")
    .Attr("shape: shape")
    .SetShapeFn([](InferenceContext* c) {
      tensorflow::PartialTensorShape shape;
      TF_RETURN_IF_ERROR(c->GetAttr("shape", &shape));
      ShapeHandle handle;
      TF_RETURN_IF_ERROR(c->MakeShapeFromPartialTensorShape(shape, &handle));
      c->set_output(0, handle);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The numbers of a slot in 8 bits.

packed: what PackSlot gives.
plain: the slot.
is_signed: as PackSlot had it.
shape: of the slot.
)doc");

}  // namespace
}  // namespace tf_optim
