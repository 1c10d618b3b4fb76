// Calls out of an XLA computation that write variables where they are.
#ifndef TF_OPTIM_CC_XLA_IN_PLACE_CALL_H_
#define TF_OPTIM_CC_XLA_IN_PLACE_CALL_H_

#include <string>
#include <vector>

#include "cc/values/xla_version.h"

namespace tf_optim {

// For each variable: itself, then its slots.
using Streams = std::vector<std::vector<xla::XlaOp>>;

// The streams after a call of `target`, in their own memory. It is given the
// streams, then `others`, all of them row-major; `attributes` is an MLIR
// dictionary, or empty.
Streams CallInPlace(const std::string& target, const std::string& attributes,
                    const Streams& streams,
                    const std::vector<xla::XlaOp>& others);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_IN_PLACE_CALL_H_
