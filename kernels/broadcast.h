/// Functions of two arrays, dimensions of which may be repeated: y = f(a, b), or y += that, for every element of y.
///
/// A new function is a struct here, its name in LIBTRAIN_BROADCAST, a header in libtrain/ops/ and a row of the table. Gradients
/// are such functions too, of what arrives and of the arguments: where a dimension of an argument was repeated, a sum
/// over it follows (kernels/dim_sum.h). Formulas are as in kernels/pointwise.h.
#pragma once
#include "kernels/pointwise.h"

namespace libtrain::kernels {

struct Plus {
  static constexpr int kInputs = 2;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A a, A b, A) { return a + b; }
};
struct Minus {
  static constexpr int kInputs = 2;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A a, A b, A) { return a - b; }
};
/// Its own gradient: dy * b and dy * a.
struct Times {
  static constexpr int kInputs = 2;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A a, A b, A) { return a * b; }
};
/// a / b. Its gradient in a is a quotient too, dy / b.
struct Quotient {
  static constexpr int kInputs = 2;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A a, A b, A) { return a / b; }
};
/// The gradient of a quotient in b.
struct QuotientSlope {
  static constexpr int kInputs = 3;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A a, A b, A dy) { return -dy * (a / b) / b; }
};

/// The cross-entropy between a probability z and that of logit x, -z log s(x) - (1 - z) log(1 - s(x)) with the logistic function s, as
/// max(x, 0) - x z + log(1 + exp(-|x|)), in which nothing overflows.
struct LogisticLoss {
  static constexpr int kInputs = 2;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A x, A z, A) {
    return (x < A(0) ? A(0) : x) - x * z + Math::log1p(Math::exp(x < A(0) ? x : -x));
  }
};
/// Its gradients in x and in z.
struct LogisticLossSlope {
  static constexpr int kInputs = 3;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A x, A z, A dy) {
    return dy * (Logistic<A>::template at<Math>(x).value - z);
  }
};
struct LogisticLossTargetSlope {
  static constexpr int kInputs = 3;
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A apply(A x, A, A dy) { return -dy * x; }
};

/// Calls macro(F) for every function of the family.
#define LIBTRAIN_BROADCAST(macro)                                                                \
  macro(Plus) macro(Minus) macro(Times) macro(Quotient) macro(QuotientSlope) macro(LogisticLoss) \
      macro(LogisticLossSlope) macro(LogisticLossTargetSlope)

/// An argument: element (i0, i1, i2, i3) of y meets data[sum of i_k * strides[k]]. A stride of 0 repeats; the last one is 0 or 1.
template <class T> struct Operand {
  const T* data = nullptr;
  std::array<int64_t, 4> strides{0, 0, 0, 0};
};

template <class T, class Out> struct Broadcast {
  std::array<Operand<T>, 3> in;  // F::kInputs of them
  std::array<int64_t, 4> sizes;  // of y, outermost first; unused ones are 1
  Sink<Out> y;                   // contiguous, in T or in accum_t<T>; it aliases no argument
};

template <class F, Isa isa, class T, class Out> void broadcast(Cpu<isa>, const Broadcast<T, Out>&);
template <class F, class T, class Out> void broadcast(Cuda, const Broadcast<T, Out>&);

}  // namespace libtrain::kernels
