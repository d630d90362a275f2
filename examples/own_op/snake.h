#pragma once
#include <libtrain/libtrain.h>

#include <cmath>

#include "snake_kernel.h"

namespace own {

/// x + sin²(a x) / a for every element: f32, bf16 or f64 of any shape, a != 0  →  the same shape and dtype.
libtrain::Tensor snake(const libtrain::Tensor& x, double a);

// ---------------------------------------------------------------------------------------------------------------------

// For the CPU, whatever its instruction set.
template <libtrain::Isa isa, class T> void snake_forward(libtrain::Cpu<isa>, const Snake<T>& k) {
  using A = libtrain::accum_t<T>;
  for (int64_t i = 0; i < k.x.size(); ++i) {
    const A x = A(k.x.data[i]), s = std::sin(A(k.a) * x);
    k.y.data[i] = T(x + s * s / A(k.a));
  }
}

template <libtrain::Isa isa, class T> void snake_backward(libtrain::Cpu<isa>, const SnakeGradient<T>& k) {
  using A = libtrain::accum_t<T>;
  for (int64_t i = 0; i < k.x.size(); ++i) {
    const A dx = A(k.dy.data[i]) * (1 + std::sin(2 * A(k.a) * A(k.x.data[i])));
    k.dx.data[i] = T(k.dx.accumulate ? A(k.dx.data[i]) + dx : dx);
  }
}

inline libtrain::Tensor snake(const libtrain::Tensor& x, double a) {
  LIBTRAIN_CHECK(a != 0, "[snake] a must not be 0, got {}", a);
  const libtrain::Tensor y(x.shape(), x.dtype(), x.device());
  libtrain::visit_float("snake", x.dtype(), [&]<class T> {
    const Snake<T> args{x.matrix<const T>(), y.matrix<T>(), a};
    libtrain::on(x.device(), [&](auto device) { snake_forward(device, args); });
    libtrain::record("snake", y, {x}, {}, [args](const libtrain::BackwardStep& step) {
      const SnakeGradient<T> gradient{args.x, step.doutput<T>(), step.sink<T>(0), args.a};
      libtrain::on(step.output.device(), [&](auto device) { snake_backward(device, gradient); });
    });
  });
  return y;
}

}  // namespace own
