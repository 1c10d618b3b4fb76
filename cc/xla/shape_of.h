#ifndef TF_OPTIM_CC_XLA_SHAPE_OF_H_
#define TF_OPTIM_CC_XLA_SHAPE_OF_H_

#include "cc/values/xla_version.h"

namespace tf_optim {

inline xla::Shape ShapeOf(xla::XlaOp op) {
  return op.builder()->GetShape(op).value();
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_SHAPE_OF_H_
