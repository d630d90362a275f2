/// Functions of one argument, applied to every element: y = f(x), dx = dy * f'(x).
///
/// A new function is a struct here with the two formulas, its name in LIBTRAIN_POINTWISE, a header in libtrain/ops/
/// and a row of the table. Formulas serve both devices and both precisions: `A` is float or double, and `Math` brings
/// exp, log, log1p, sqrt, tanh and erfc of A from the side that compiles them. They are free of branches, so that loops over
/// them vectorize, and let NaN through.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

/// max(x, 0); the slope at 0 is 0.
struct Relu {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) { return x < A(0) ? A(0) : x; }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) { return x <= A(0) ? A(0) : dy; }
};

/// x * Phi(x), Phi the distribution function of the normal distribution (Hendrycks and Gimpel, arXiv 1606.08415).
/// Slope: Phi(x) + x * density(x).
struct GeluErf {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A phi(A x) {
    return A(0.5) * Math::erfc(x * A(-0.70710678118654752440));
  }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) { return x * phi<Math>(x); }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) {
    const A density = A(0.39894228040143267794) * Math::exp(A(-0.5) * x * x);
    return dy * (phi<Math>(x) + x * density);
  }
};

/// The logistic function s(v) = 1 / (1 + exp(-v)) and its slope s * (1 - s), through exp(-|v|), which never overflows and
/// keeps the precision of small values.
template <class A> struct Logistic {
  A value, slope;

  template <class Math> LIBTRAIN_HOST_DEVICE static Logistic at(A v) {
    const A e = Math::exp(v < A(0) ? v : -v), upper = A(1) / (A(1) + e), lower = e * upper;
    return {v < A(0) ? lower : upper, lower * upper};
  }
};

/// The same paper's approximation 0.5 * x * (1 + tanh(u)), u = sqrt(2 / pi) * (x + 0.044715 * x^3), as x * s(2 u)
/// with the logistic function s(v) = 1 / (1 + exp(-v)). Slope: s + x * s * (1 - s) * 2 u'.
struct GeluTanh {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) {
    return x * Logistic<A>::template at<Math>(x * (kTwice<A> + kCubic<A> * x * x)).value;
  }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) {
    const auto s = Logistic<A>::template at<Math>(x * (kTwice<A> + kCubic<A> * x * x));
    return dy * (s.value + x * s.slope * (kTwice<A> + A(3) * kCubic<A> * x * x));
  }
  template <class A> static constexpr A kTwice = A(1.59576912160573071176);  // 2 * sqrt(2 / pi)
  template <class A> static constexpr A kCubic = A(1.59576912160573071176 * 0.044715);
};

/// tanh(x). Slope: 1 / cosh(x)^2, through exp(-2 |x|) so that it keeps its precision where tanh is near 1.
struct Tanh {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) { return Math::tanh(x); }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) {
    return dy * (A(4) * Logistic<A>::template at<Math>(A(2) * x).slope);
  }
};

/// The logistic function.
struct Sigmoid {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) {
    return Logistic<A>::template at<Math>(x).value;
  }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) {
    return dy * Logistic<A>::template at<Math>(x).slope;
  }
};

/// x * s(x), s the logistic function (Elfwing et al., arXiv 1702.03118). Slope: s + x * s'.
struct Silu {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) {
    return x * Logistic<A>::template at<Math>(x).value;
  }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) {
    const auto s = Logistic<A>::template at<Math>(x);
    return dy * (s.value + x * s.slope);
  }
};

/// e^x, its own slope.
struct Exp {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) { return Math::exp(x); }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) { return dy * Math::exp(x); }
};

/// The natural logarithm. Slope: 1 / x.
struct Log {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) { return Math::log(x); }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) { return dy / x; }
};

/// The square root. Slope: 1 / (2 sqrt(x)).
struct Sqrt {
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A forward(A x) { return Math::sqrt(x); }
  template <class Math, class A> LIBTRAIN_HOST_DEVICE static A backward(A x, A dy) {
    return dy / (A(2) * Math::sqrt(x));
  }
};

/// Calls macro(F) for every function of the family.
#define LIBTRAIN_POINTWISE(macro) \
  macro(Relu) macro(GeluErf) macro(GeluTanh) macro(Tanh) macro(Sigmoid) macro(Silu) macro(Exp) macro(Log) macro(Sqrt)

template <class T> struct Pointwise {
  View<const T> x;
  View<T> y;  // as many elements
};

template <class T> struct PointwiseGradient {
  View<const T> x, dy;
  Sink<T> dx;  // may alias x
};

template <class F, Isa isa, class T> void pointwise_forward(Cpu<isa>, const Pointwise<T>&);
template <class F, class T> void pointwise_forward(Cuda, const Pointwise<T>&);

template <class F, Isa isa, class T> void pointwise_backward(Cpu<isa>, const PointwiseGradient<T>&);
template <class F, class T> void pointwise_backward(Cuda, const PointwiseGradient<T>&);

}  // namespace libtrain::kernels
