// Visits the members of a rule's plain structs (hyperparameters, slots,
// coefficients) in order of declaration, so that a driver can load, store and
// broadcast them without knowing their names.
#ifndef TF_OPTIM_CC_RULES_FIELDS_H_
#define TF_OPTIM_CC_RULES_FIELDS_H_

#include <cstddef>
#include <type_traits>
#include <utility>

namespace tf_optim {

// The type of a slot that the rule's options leave out.
struct Absent {};

template <class V, bool present>
using Optional = std::conditional_t<present, V, Absent>;

template <class Field>
inline constexpr bool kIsPresent =
    !std::is_same_v<std::remove_cv_t<std::remove_reference_t<Field>>, Absent>;

namespace fields_internal {

struct Any {
  template <class T>
  constexpr operator T() const;  // NOLINT: only ever named, never called
};

template <class S, class Indices, class = void>
struct IsBraceConstructible : std::false_type {};
template <class S, size_t... i>
struct IsBraceConstructible<
    S, std::index_sequence<i...>,
    std::void_t<decltype(S{(static_cast<void>(i), Any{})...})>>
    : std::true_type {};

template <class S, size_t count>
constexpr size_t Count() {
  if constexpr (count == 0) {
    return 0;
  } else if constexpr (IsBraceConstructible<
                           S, std::make_index_sequence<count>>::value) {
    return count;
  } else {
    return Count<S, count - 1>();
  }
}

template <class F, size_t... i, class... Members>
constexpr void CallIndexed(F& f, std::index_sequence<i...>,
                           Members&... members) {
  (f(std::integral_constant<size_t, i>{}, members), ...);
}

}  // namespace fields_internal

// A struct of a rule has at most so many members: ForEachField names each.
inline constexpr size_t kMaxFields = 10;

// How many members the struct has, absent ones included; kMaxFields + 1 where
// there are more than that.
template <class S>
inline constexpr size_t kFieldCount =
    fields_internal::Count<std::remove_cv_t<S>, kMaxFields + 1>();

// Calls f(index, member) for each member; the index is an integral_constant.
template <class S, class F>
constexpr void ForEachField(S& s, F&& f) {
  constexpr size_t n = kFieldCount<S>;
  static_assert(n <= kMaxFields,
                "a struct of a rule has too many members: kMaxFields in "
                "cc/rules/fields.h says how many are allowed");
  [[maybe_unused]] auto call = [&f](auto&... members) {
    fields_internal::CallIndexed(
        f, std::make_index_sequence<sizeof...(members)>{}, members...);
  };
  if constexpr (n == 1) {
    auto& [a] = s;
    call(a);
  } else if constexpr (n == 2) {
    auto& [a, b] = s;
    call(a, b);
  } else if constexpr (n == 3) {
    auto& [a, b, c] = s;
    call(a, b, c);
  } else if constexpr (n == 4) {
    auto& [a, b, c, d] = s;
    call(a, b, c, d);
  } else if constexpr (n == 5) {
    auto& [a, b, c, d, e] = s;
    call(a, b, c, d, e);
  } else if constexpr (n == 6) {
    auto& [a, b, c, d, e, g] = s;
    call(a, b, c, d, e, g);
  } else if constexpr (n == 7) {
    auto& [a, b, c, d, e, g, h] = s;
    call(a, b, c, d, e, g, h);
  } else if constexpr (n == 8) {
    auto& [a, b, c, d, e, g, h, i] = s;
    call(a, b, c, d, e, g, h, i);
  } else if constexpr (n == 9) {
    auto& [a, b, c, d, e, g, h, i, j] = s;
    call(a, b, c, d, e, g, h, i, j);
  } else if constexpr (n == 10) {
    auto& [a, b, c, d, e, g, h, i, j, k] = s;
    call(a, b, c, d, e, g, h, i, j, k);
  }
}

// Calls f(member of a, member of b) for two structs of the same members, over
// one value type or two, where they are present.
template <class A, class B, class F>
constexpr void ForEachPair(A& a, B& b, F&& f) {
  static_assert(kFieldCount<A> == kFieldCount<B>);
  ForEachField(a, [&](auto i, auto& of_a) {
    if constexpr (kIsPresent<decltype(of_a)>) {
      ForEachField(b, [&](auto j, auto& of_b) {
        if constexpr (i() == j()) f(of_a, of_b);
      });
    }
  });
}

// Fills `to`, a struct of the same members over another value type.
template <class From, class To, class F>
constexpr void MapFields(const From& from, To& to, F&& f) {
  ForEachPair(from, to, [&](const auto& value, auto& out) { out = f(value); });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_FIELDS_H_
