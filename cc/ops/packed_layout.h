// How the drivers see the tensors of variables and slots.
#ifndef TF_OPTIM_CC_OPS_PACKED_LAYOUT_H_
#define TF_OPTIM_CC_OPS_PACKED_LAYOUT_H_

#include <cstdint>

#include "cc/values/packed.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.pb.h"

namespace tf_optim {

// Of a variable's dtype, which the ops say is one of these.
inline Storage StorageOf(tensorflow::DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_DOUBLE:
      return Storage::kFloat64;
    case tensorflow::DT_HALF:
      return Storage::kFloat16;
    case tensorflow::DT_BFLOAT16:
      return Storage::kBFloat16;
    default:
      return Storage::kFloat32;
  }
}

// What a slot's dtype says of how it lies in memory.
inline SlotFormat FormatOf(tensorflow::DataType dtype) {
  return dtype == tensorflow::DT_BFLOAT16 ? SlotFormat::kBFloat16
         : dtype == tensorflow::DT_UINT8  ? SlotFormat::k8Bits
                                          : SlotFormat::kPlain;
}

// The elements of a row; a scalar is a row of its own.
inline int64_t WidthOf(const tensorflow::TensorShape& variable) {
  const int64_t rows = variable.dims() > 0 ? variable.dim_size(0) : 1;
  return rows > 0 ? variable.num_elements() / rows : 0;
}

// The 8-bit slots of a variable: [rows, bytes of a row].
inline tensorflow::TensorShape PackedShape(
    const tensorflow::TensorShape& variable) {
  const int64_t rows = variable.dims() > 0 ? variable.dim_size(0) : 1;
  return tensorflow::TensorShape({rows, PackedRow{WidthOf(variable)}.bytes()});
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_OPS_PACKED_LAYOUT_H_
