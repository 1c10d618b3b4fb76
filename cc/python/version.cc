// Alone, so that the rest of the module is compiled once for all TensorFlows.
namespace tf_optim {

extern const char* const kTensorFlowVersion;
const char* const kTensorFlowVersion = TFO_TF_VERSION;

}  // namespace tf_optim
