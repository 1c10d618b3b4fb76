// Marks a function that the host and CUDA kernels both call. constexpr
// functions need no mark: nvcc runs with --expt-relaxed-constexpr.
#ifndef TF_OPTIM_CC_VALUES_HOST_DEVICE_H_
#define TF_OPTIM_CC_VALUES_HOST_DEVICE_H_

#ifdef __CUDACC__
#define TFO_HD __host__ __device__
#else
#define TFO_HD
#endif

#ifdef __CUDA_ARCH__
#define TFO_UNROLL _Pragma("unroll")
#else
#define TFO_UNROLL
#endif

#endif  // TF_OPTIM_CC_VALUES_HOST_DEVICE_H_
