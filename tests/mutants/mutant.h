/// What mutated copies of sources call in place of operators (generate.py writes them): each function is a site, and does what the
/// source says unless one of its mutants is the one under test. In constant expressions nothing is mutated.
#pragma once
#include <algorithm>
#include <type_traits>

namespace libtrain::mutants {

extern "C" {
extern int libtrain_mutant;                  // under test; none: -1
extern bool libtrain_mutants_recorded;       // whether sites note that they were reached
extern unsigned char libtrain_sites[65536];  // by number: 1 compiled, 3 reached
}

template <int site> struct Compiled {
  Compiled() { libtrain_sites[site] |= 1; }
  void touch() const {}
};
template <int site> inline const Compiled<site> compiled;

/// Which of the site's mutants, counted from 0, is under test; anything else if none is. `possible` are those that these types have.
template <int site, int... possible> constexpr unsigned variant() {
  if (std::is_constant_evaluated()) return ~0u;
  (compiled<site + possible>.touch(), ...);
  if (libtrain_mutants_recorded) libtrain_sites[site] |= 2;
  return unsigned(libtrain_mutant - site);
}

template <class... T> constexpr bool numbers = (std::is_arithmetic_v<T> && ...);

template <int site, class A, class B> constexpr auto add(A a, B b) {
  using R = decltype(a + b);
  if constexpr (numbers<A, B>) switch (variant<site, 0, 1, 2>()) {
      case 0:
        return R(a - b);
      case 1:
        return R(a);
      case 2:
        return R(b);
    }
  else if constexpr (std::is_pointer_v<A>)
    if (variant<site, 1>() == 1) return R(a);
  return a + b;
}

template <int site, class A, class B> constexpr auto subtract(A a, B b) {
  using R = decltype(a - b);
  if constexpr (numbers<A, B>) switch (variant<site, 0, 1>()) {
      case 0:
        return R(a + b);
      case 1:
        return R(a);
    }
  return a - b;
}

template <int site, class A, class B> constexpr auto multiply(A a, B b) {
  using R = decltype(a * b);
  if constexpr (numbers<A, B>) switch (variant<site, 0, 1, 2>()) {
      case 0:
        return R(a / b);
      case 1:
        return R(a);
      case 2:
        return R(b);
    }
  return a * b;
}

template <int site, class A, class B> constexpr auto divide(A a, B b) {
  using R = decltype(a / b);
  if constexpr (numbers<A, B>) switch (variant<site, 0, 1>()) {
      case 0:
        return R(a * b);
      case 1:
        return R(a);
    }
  return a / b;
}

#define LIBTRAIN_COMPARISON(name, op, other)                                          \
  template <int site, class A, class B> constexpr auto name(const A& a, const B& b) { \
    if constexpr (numbers<A, B>)                                                      \
      if (variant<site, 0>() == 0) return bool(a other b);                            \
    return bool(a op b);                                                              \
  }
LIBTRAIN_COMPARISON(less, <, <=)
LIBTRAIN_COMPARISON(less_or_equal, <=, <)
LIBTRAIN_COMPARISON(greater, >, >=)
LIBTRAIN_COMPARISON(greater_or_equal, >=, >)
LIBTRAIN_COMPARISON(equal, ==, !=)
LIBTRAIN_COMPARISON(unequal, !=, ==)
#undef LIBTRAIN_COMPARISON

/// A loop's bound: one round more, one less.
template <int site, class A> constexpr A bound(A a) {
  if constexpr (numbers<A>) switch (variant<site, 0, 1>()) {
      case 0:
        return A(a + 1);
      case 1:
        return A(a - 1);
    }
  return a;
}

/// A constant: the next whole number, twice the fraction.
template <int site, class A> constexpr A constant(A a) {
  if (variant<site, 0>() == 0) return std::is_integral_v<A> || a == A(0) ? A(a + 1) : A(a + a);
  return a;
}

template <int site, class A> constexpr auto negative(A a) {
  if constexpr (numbers<A>)
    if (variant<site, 0>() == 0) return decltype(-a)(a);
  return -a;
}

/// A condition, a flag.
template <int site, class A> constexpr bool condition(const A& a) {
  return variant<site, 0>() == 0 ? !static_cast<bool>(a) : static_cast<bool>(a);
}

/// Whether a statement is run.
template <int site> constexpr bool kept() { return variant<site, 0>() != 0; }

template <int site, class L, class R> constexpr void assign(L&& left, R&& right) {
  if constexpr (numbers<std::remove_cvref_t<L>, std::remove_cvref_t<R>>)
    if (variant<site, 0>() == 0) {
      left += right;
      return;
    }
  left = static_cast<R&&>(right);
}

template <int site, class L, class R> constexpr void assign_sum(L&& left, R right) {
  if constexpr (numbers<std::remove_cvref_t<L>, R>) switch (variant<site, 0, 1>()) {
      case 0:
        left = right;
        return;
      case 1:
        left -= right;
        return;
    }
  left += right;
}

template <int site, class L, class R> constexpr void assign_product(L&& left, R right) {
  if constexpr (numbers<std::remove_cvref_t<L>, R>)
    if (variant<site, 0>() == 0) return;
  left *= right;
}

template <int site, class T> constexpr T smallest(T a, T b) {
  return variant<site, 0>() == 0 ? std::max(a, b) : std::min(a, b);
}
template <int site, class T> constexpr T largest(T a, T b) {
  return variant<site, 0>() == 0 ? std::min(a, b) : std::max(a, b);
}

/// One of two neighbouring arguments, of which `mine` belongs here.
template <int site, class A, class B> constexpr A&& argument(A&& mine, [[maybe_unused]] B&& other) {
  if constexpr (std::is_same_v<A, B>)
    if (variant<site, 0>() == 0) return static_cast<A&&>(other);
  return static_cast<A&&>(mine);
}

}  // namespace libtrain::mutants
