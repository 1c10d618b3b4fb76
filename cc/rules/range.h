// The values that a hyperparameter may have. A rule writes them beside the
// names; ops, bindings and tests read them there.
#ifndef TF_OPTIM_CC_RULES_RANGE_H_
#define TF_OPTIM_CC_RULES_RANGE_H_

#include <cstdio>
#include <limits>
#include <string>

namespace tf_optim {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Range {
  double low;
  double high;
  bool closed = false;  // whether `high` itself is allowed

  // No NaN, and no infinity, is in any range.
  constexpr bool Has(double x) const {
    return x >= low && x > -kInfinity && (x < high || (closed && x == high)) &&
           x < kInfinity;
  }
};

inline constexpr Range kFraction = {0, 1};
inline constexpr Range kFractionOrOne = {0, 1, true};
inline constexpr Range kNotNegative = {0, kInfinity};
inline constexpr Range kNotPositive = {-kInfinity, 0, true};

inline std::string NumberText(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", x);
  return text;
}

inline std::string RangeText(const Range& range) {
  if (range.high == kInfinity) {
    return "a finite number >= " + NumberText(range.low);
  }
  if (range.low == -kInfinity) {
    return "a finite number <= " + NumberText(range.high);
  }
  return "in [" + NumberText(range.low) + ", " + NumberText(range.high) +
         (range.closed ? "]" : ")");
}

// "beta_1 must be in [0, 1). Received: 1.5."
inline std::string RangeError(const std::string& name, const Range& range,
                              double received) {
  return name + " must be " + RangeText(range) +
         ". Received: " + NumberText(received) + ".";
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_RANGE_H_
