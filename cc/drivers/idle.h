// What the steps since some row's last one do to that row, if it had no
// gradient in them: the history of a table, over which idle rows are brought
// up to date at once (sparse_update="exact").
//
// A step with a zero gradient multiplies every slot by a factor, and the
// variable becomes
//
//   decayed * var - scale * rate / (1 - position * (1 - root))
//
// where scale and position come from the row's slots before its first idle
// step (the rule's MoveOf), and decayed, rate and root from the step alone. So
// k steps are
//
//   left * var - scale * G(position),
//
// and G is one function on [0, 1] for all elements whose first idle step was
// the same one. The history keeps `left` and G for each such first step, and a
// new step changes them all. G is kept by its Chebyshev coefficients, for those
// of a term are known:
//
//   1 / (1 - position (1 - root)) =
//       (1 + 2 sum_m u^m T_m(2 position - 1)) / sqrt(root),
//   u = (1 - sqrt(root)) / (1 + sqrt(root)).
//
// So no polynomial is fitted, and what is cut off is a geometric series, whose
// sum bounds the error. Where that is too much the steps are repeated.
//
// A moving average of the variable goes along: after k steps it is
//
//   average_kept * average + average_left * var - scale * E(position),
//
// E being a mean of the G of those steps, in the same polynomials.
#ifndef TF_OPTIM_CC_DRIVERS_IDLE_H_
#define TF_OPTIM_CC_DRIVERS_IDLE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cc/drivers/cpu.h"

namespace tf_optim {

// Rows to bring up to date, side by side, and the first step of the history
// that they missed.
struct IdleRows {
  int64_t row;
  int64_t first;
  int64_t count = 1;
};

// What a step does besides what its rule says.
struct IdleDecays {
  double decay = 0;         // learning_rate * weight_decay
  double average_kept = 1;  // of the moving average
};

template <class Rule>
class IdleHistory {
 public:
  using Hyper = typename Rule::template Hyper<double>;
  using Slots = typename Rule::template Slots<double>;
  using Coefficients = typename Rule::template Coefficients<double>;
  static constexpr bool kMoves = Rule::kIdle == Idle::kMoves;
  static constexpr bool kHasRoot = kMoves && Rule::kIdleHasRoot;
  static constexpr int kMostTerms = kHasRoot ? 16 : 1;

  // `averaged`: whether there is a moving average. `is_cautious`: G is 0, for
  // without a gradient nothing agrees with it. `precision`: the relative error
  // that G may have.
  IdleHistory(const Hyper& hyper, bool averaged, bool is_cautious,
              double precision)
      : hyper_(hyper),
        averaged_(averaged),
        is_cautious_(is_cautious),
        precision_(precision) {
    if constexpr (Rule::kIdle == Idle::kRepeated) {
      way_ = Way::kRepeat;
    } else if constexpr (Rule::kIdle == Idle::kLast) {
      const bool is_last = Rule::IdleIsLast(hyper) && !averaged;
      way_ = is_last ? Way::kLast : Way::kRepeat;
    } else {
      kept_.push_back(Filled(1));
    }
  }

  int64_t length() const { return static_cast<int64_t>(steps_.size()); }

  void Extend(const Coefficients& step, const IdleDecays& decays) {
    if (kHasRoot && steps_.empty()) ChooseTerms(step);
    steps_.push_back(step);
    decays_.push_back(decays);
    if (way_ != Way::kClosed) return;
    AddKept();
    var_.Add(1, count_);
    var_.Scale(1 - decays.decay);
    if constexpr (kMoves) {
      least_.push_back(0);
      error_.push_back(0);
      if (is_cautious_) open_ = length();
      for (int64_t i = open_; i < length(); ++i) AddTo(i, step);
      while (open_ < length() && IsAtRest(open_, step)) ++open_;
    }
    if (!averaged_) return;
    average_kept_.push_back(1);
    for (double& kept : average_kept_) kept *= decays.average_kept;
    average_.Add(0, count_);
    average_.MoveTowards(var_, decays.average_kept);
  }

  // Whether the steps from this one on change nothing.
  bool ChangesNothing(int64_t first) const {
    if (first >= length()) return true;
    if constexpr (Rule::kIdle == Idle::kDecays) {
      bool nothing = var_.left[first] == 1 && !averaged_;
      ForEachField(kept_[length() - first], [&](auto, const auto& kept) {
        if constexpr (kIsPresent<decltype(kept)>) nothing &= kept == 1;
      });
      return nothing;
    }
    return false;
  }

  // --- the closed form of the steps from `first` on

  bool IsClosed(int64_t first) const {
    if (way_ != Way::kClosed) return false;
    if constexpr (kHasRoot) return error_[first] <= precision_ * least_[first];
    return true;
  }
  int terms() const { return count_; }
  // The factor of the variable in what it becomes, and G.
  double left(int64_t first) const { return var_.left[first]; }
  const double* terms_of(int64_t first) const {
    return &var_.terms[first * count_];
  }
  // The same of its average, whose own factor is average_kept.
  bool MovesAverage(int64_t first) const {
    return averaged_ && average_kept_[first] != 1;
  }
  double average_kept(int64_t first) const { return average_kept_[first]; }
  double average_left(int64_t first) const { return average_.left[first]; }
  const double* average_terms_of(int64_t first) const {
    return &average_.terms[first * count_];
  }
  const Slots& KeptSince(int64_t first) const {
    return kept_[length() - first];
  }

  // --- otherwise the steps themselves

  // The first that has to be taken of those from `first` on.
  int64_t FirstTaken(int64_t first) const {
    return way_ == Way::kLast ? std::max(first, length() - 1) : first;
  }
  bool IsRepeating() const { return way_ == Way::kRepeat; }
  const Coefficients& step(int64_t i) const { return steps_[i]; }
  const IdleDecays& decays(int64_t i) const { return decays_[i]; }

 private:
  enum class Way { kClosed, kLast, kRepeat };
  // What steps make of a number: `left` of the variable, and a polynomial. For
  // each first step.
  struct Form {
    std::vector<double> left, terms;

    void Add(double of_left, int count) {
      left.push_back(of_left);
      terms.resize(terms.size() + static_cast<size_t>(count), 0.0);
    }
    void Scale(double factor) {
      if (factor == 1) return;
      for (double& x : left) x *= factor;
      for (double& x : terms) x *= factor;
    }
    void MoveTowards(const Form& other, double kept) {
      const auto move = [kept](std::vector<double>& to,
                               const std::vector<double>& from) {
        for (size_t i = 0; i < to.size(); ++i) {
          to[i] = kept * to[i] + (1 - kept) * from[i];
        }
      };
      move(left, other.left);
      move(terms, other.terms);
    }
  };
  // What a step does to G: `rate` at position 0, and where it has a root also
  // its series.
  struct Term {
    double rate = 0, first = 0, ratio = 0;

    // What is left when so many coefficients are taken.
    double Error(int count) const {
      return std::abs(2 * first * std::pow(ratio, count) / (1 - ratio));
    }
  };

  static Slots Filled(double value) {
    Slots slots{};
    ForEachField(slots, [value](auto, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) slot = value;
    });
    return slots;
  }

  void AddKept() {
    if constexpr (Rule::kIdle == Idle::kDecays || kMoves) {
      kept_.push_back(NextKept(kept_.back()));
    }
  }

  // A factor that is 0 by underflow alone would make NaN of an infinite slot.
  Slots NextKept(const Slots& kept) const {
    Slots next = Rule::Kept(hyper_);
    ForEachPair(kept, next, [](const double& before, double& factor) {
      const double least = std::numeric_limits<double>::min();
      factor = factor == 0 ? 0 : std::max(before * factor, least);
    });
    return next;
  }

  static Term TermOf(const Slots& kept, const Coefficients& first,
                     const Coefficients& step) {
    Term term;
    term.rate = Rule::IdleRate(kept, step);
    term.first = term.rate;
    if constexpr (kHasRoot) {
      const double root = std::sqrt(Rule::IdleRoot(kept, first, step));
      term.first = term.rate / root;
      term.ratio = (1 - root) / (1 + root);
    }
    return term;
  }

  // The least number of coefficients that is precise enough under a constant
  // learning rate.
  void ChooseTerms(const Coefficients& step) {
    if constexpr (kHasRoot) {
      constexpr int kMostSteps = 50000;
      double least = 0, error[kMostTerms + 1] = {};
      Slots kept = NextKept(Filled(1));
      const double begin = std::abs(Rule::IdleRate(kept, step));
      for (int i = 0; i < kMostSteps; ++i, kept = NextKept(kept)) {
        const Term term = TermOf(kept, step, step);
        least += std::abs(term.rate);
        for (int n = 1; n <= kMostTerms; ++n) error[n] += term.Error(n);
        if (!(std::abs(term.first) > 1e-3 * precision_ * begin)) break;
      }
      count_ = 1;
      while (count_ < kMostTerms && !(error[count_] <= precision_ * least)) {
        ++count_;
      }
    }
  }

  void AddTo(int64_t first, const Coefficients& step) {
    const Term term = TermOf(kept_[length() - first], steps_[first], step);
    double* const terms = &var_.terms[first * count_];
    terms[0] += term.first;
    double next = 2 * term.first;
    for (int n = 1; n < count_; ++n) terms[n] += next *= term.ratio;
    if constexpr (kHasRoot) {
      least_[first] += std::abs(term.rate);
      error_[first] += std::abs(next * term.ratio / (1 - term.ratio));
    }
  }

  // Whether what the step did is nothing to what a first idle step does.
  bool IsAtRest(int64_t first, const Coefficients& step) const {
    constexpr double kNothing = 1e-15;
    const Slots& kept = kept_[length() - first];
    const double begin = std::abs(TermOf(kept_[1], step, step).rate);
    double now = Rule::IdleRate(kept, step);
    if constexpr (kHasRoot) now /= Rule::IdleRoot(kept, steps_[first], step);
    return begin > 0 && std::abs(now) < kNothing * begin;
  }

  Hyper hyper_;
  bool averaged_, is_cautious_;
  double precision_;
  Way way_ = Way::kClosed;
  int count_ = 1;  // of coefficients of G
  std::vector<Coefficients> steps_;
  std::vector<IdleDecays> decays_;
  std::vector<Slots> kept_;  // of the slots, by so many steps
  Form var_, average_;
  // By first step: what is left of the average, G(0) and the error of G.
  std::vector<double> average_kept_, least_, error_;
  int64_t open_ = 0;  // the earlier ones' G has come to rest
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_IDLE_H_
