// One number as a value: float or double, on the host and in CUDA kernels.
#ifndef TF_OPTIM_CC_VALUES_SCALAR_H_
#define TF_OPTIM_CC_VALUES_SCALAR_H_

#include <cmath>

#ifdef __CUDACC__
#define TFO_SCALAR __host__ __device__ inline
#else
#define TFO_SCALAR inline
#endif

namespace tf_optim {

TFO_SCALAR float Sqrt(float x) { return std::sqrt(x); }
TFO_SCALAR double Sqrt(double x) { return std::sqrt(x); }
TFO_SCALAR float Abs(float x) { return std::fabs(x); }
TFO_SCALAR double Abs(double x) { return std::fabs(x); }
TFO_SCALAR double Pow(double x, double y) { return std::pow(x, y); }

// Both give b when either is NaN, as x86's vector instructions do.
TFO_SCALAR float Max(float a, float b) { return a > b ? a : b; }
TFO_SCALAR double Max(double a, double b) { return a > b ? a : b; }
TFO_SCALAR float Min(float a, float b) { return a < b ? a : b; }
TFO_SCALAR double Min(double a, double b) { return a < b ? a : b; }

}  // namespace tf_optim

#undef TFO_SCALAR

#endif  // TF_OPTIM_CC_VALUES_SCALAR_H_
