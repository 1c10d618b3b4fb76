// One number as a value: float or double, on the host and in CUDA kernels.
#ifndef TF_OPTIM_CC_VALUES_SCALAR_H_
#define TF_OPTIM_CC_VALUES_SCALAR_H_

#include <cfloat>
#include <cmath>

#ifdef __CUDACC__
#define TFO_SCALAR __host__ __device__ inline
#else
#define TFO_SCALAR inline
#endif

namespace tf_optim {

TFO_SCALAR float Sqrt(float x) { return std::sqrt(x); }
TFO_SCALAR double Sqrt(double x) { return std::sqrt(x); }
// A denormal becomes 0, as in arithmetic here: which of two numbers Max then
// takes must not depend on how a machine compares denormals.
TFO_SCALAR float Abs(float x) {
  return std::fabs(x) < FLT_MIN ? 0 : std::fabs(x);
}
TFO_SCALAR double Abs(double x) {
  return std::fabs(x) < DBL_MIN ? 0 : std::fabs(x);
}
// The root is what Ftrl asks for at each element, and far quicker.
TFO_SCALAR float Pow(float x, float y) {
  return y == 0.5f ? std::sqrt(x) : std::pow(x, y);
}
TFO_SCALAR double Pow(double x, double y) {
  return y == 0.5 ? std::sqrt(x) : std::pow(x, y);
}

// Both give b when either is NaN, as x86's vector instructions do.
TFO_SCALAR float Max(float a, float b) { return a > b ? a : b; }
TFO_SCALAR double Max(double a, double b) { return a > b ? a : b; }
TFO_SCALAR float Min(float a, float b) { return a < b ? a : b; }
TFO_SCALAR double Min(double a, double b) { return a < b ? a : b; }

TFO_SCALAR float IfPositive(float x, float a, float b) { return x > 0 ? a : b; }
TFO_SCALAR double IfPositive(double x, double a, double b) {
  return x > 0 ? a : b;
}

// What the elements of a vector share.
TFO_SCALAR float First(float x) { return x; }
TFO_SCALAR double First(double x) { return x; }

}  // namespace tf_optim

#undef TFO_SCALAR

#endif  // TF_OPTIM_CC_VALUES_SCALAR_H_
