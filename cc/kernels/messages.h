// What errors of the ops have in common.
#ifndef TF_OPTIM_CC_KERNELS_MESSAGES_H_
#define TF_OPTIM_CC_KERNELS_MESSAGES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/tensor.h"

namespace tf_optim {

// The i-th input of a list.
inline std::string At(const std::string& list, int64_t i) {
  return absl::StrCat(list, "[", i, "]");
}

inline absl::Status WrongShape(const std::string& what,
                               const std::string& expected,
                               const tensorflow::Tensor& received) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " must have shape ", expected,
                   ". Received: ", received.shape().DebugString(), "."));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_MESSAGES_H_
