// One number as a value: float or double, on the host and in CUDA kernels.
#ifndef TF_OPTIM_CC_VALUES_SCALAR_H_
#define TF_OPTIM_CC_VALUES_SCALAR_H_

#include <cfloat>
#include <cmath>

#include "cc/values/host_device.h"

namespace tf_optim {

TFO_HD inline float Sqrt(float x) { return std::sqrt(x); }
TFO_HD inline double Sqrt(double x) { return std::sqrt(x); }
// A denormal becomes 0, as in arithmetic here: which of two numbers Max then
// takes must not depend on how a machine compares denormals.
TFO_HD inline float Abs(float x) {
  return std::fabs(x) < FLT_MIN ? 0 : std::fabs(x);
}
TFO_HD inline double Abs(double x) {
  return std::fabs(x) < DBL_MIN ? 0 : std::fabs(x);
}
// The root is what Ftrl asks for at each element, and far quicker.
TFO_HD inline float Pow(float x, float y) {
  return y == 0.5f ? std::sqrt(x) : std::pow(x, y);
}
TFO_HD inline double Pow(double x, double y) {
  return y == 0.5 ? std::sqrt(x) : std::pow(x, y);
}

// Both give b when either is NaN, as x86's vector instructions do.
TFO_HD inline float Max(float a, float b) { return a > b ? a : b; }
TFO_HD inline double Max(double a, double b) { return a > b ? a : b; }
TFO_HD inline float Min(float a, float b) { return a < b ? a : b; }
TFO_HD inline double Min(double a, double b) { return a < b ? a : b; }

TFO_HD inline float IfPositive(float x, float a, float b) {
  return x > 0 ? a : b;
}
TFO_HD inline double IfPositive(double x, double a, double b) {
  return x > 0 ? a : b;
}

// What the elements of a vector share.
TFO_HD inline float First(float x) { return x; }
TFO_HD inline double First(double x) { return x; }

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_VALUES_SCALAR_H_
