/// What convert and fill, which no row of the table reaches, must do on any device.
#pragma once
#include <cmath>

#include "catch.h"
#include "kernels/convert.h"
#include "kernels/fill.h"
#include "op_cases.h"

namespace libtrain::testing {

/// Values of every size, and those that must not be lost.
inline std::vector<double> samples(int64_t count) {
  std::vector<double> values{1.00390625, 1.01171875, -3e38, 1e-40, NAN, INFINITY, -INFINITY, -0.0};
  Values drawn(static_cast<size_t>(count));
  Generator generator(3);
  normal(100)(drawn, generator);
  values.insert(values.end(), drawn.begin(), drawn.end());
  values.resize(size_t(count));
  return values;
}

inline bool same(double a, double b) {
  return a == b ? std::signbit(a) == std::signbit(b) : std::isnan(a) && std::isnan(b);
}

/// Part of a tensor from element `first` on, so that kernels see every alignment.
template <class T> View<T> tail_of(const Tensor& tensor, int64_t first) {
  return {tensor.view<T>().data + first, {tensor.numel() - first, 1, 1, 1}};
}

template <class From, class To> void check_convert(Device where, int64_t count, int64_t x_first, int64_t y_first) {
  INFO(name(where) << ": " << count << " of " << name(dtype_of<From>) << " to " << name(dtype_of<To>) << ", first "
                   << x_first << " and " << y_first);
  std::vector<From> x(size_t(x_first), From(1.0f));
  for (const double value : samples(count)) x.push_back(From(accum_t<From>(value)));
  const Tensor from = Tensor::from(std::span<const From>(x), {x_first + count}, where);
  const Tensor to = Tensor::full({y_first + count}, 5, dtype_of<To>, where);
  on(where, [&](auto device) {
    kernels::convert(device, kernels::Convert<From, To>{tail_of<const From>(from, x_first), tail_of<To>(to, y_first)});
  });
  const std::vector<To> y = to.to_vector<To>();
  for (int64_t i = 0; i < y_first; ++i) CHECK(double(y[size_t(i)]) == 5);
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i)
    wrong +=
        !same(accum_t<To>(y[size_t(y_first + i)]), accum_t<To>(To(accum_t<To>(accum_t<From>(x[size_t(x_first + i)])))));
  CHECK(wrong == 0);
}

template <class From, class To> void check_converts(Device where) {
  for (const int64_t count : {0, 1, 8, 31, 8192, 8003})
    for (const auto& [x_first, y_first] : {std::pair<int64_t, int64_t>{0, 0}, {1, 0}, {0, 1}, {8, 16}})
      check_convert<From, To>(where, count, x_first, y_first);
}

template <class T> void check_fill(Device where, T value) {
  for (const int64_t count : {0, 1, 7, 31, 129, 8192, 20011})
    for (const int64_t first : {0, 1, 3, 8}) {
      INFO(name(where) << ": " << count << " of " << name(dtype_of<T>) << " from " << first);
      const Tensor y = Tensor::zeros({first + count + 9}, dtype_of<T>, where);
      on(where, [&](auto device) {
        kernels::fill(device, kernels::Fill<T>{{y.view<T>().data + first, {count, 1, 1, 1}}, value});
      });
      int64_t wrong = 0, i = 0;
      for (const T found : y.to_vector<T>()) {
        const bool inside = i >= first && i < first + count;
        wrong += double(found) != (inside ? double(value) : 0.0);
        ++i;
      }
      CHECK(wrong == 0);
    }
}

/// Every pair of types, any alignment.
inline void check_convert(Device where) {
  check_converts<float, float>(where);
  check_converts<float, bf16>(where);
  check_converts<float, double>(where);
  check_converts<bf16, float>(where);
  check_converts<bf16, bf16>(where);
  check_converts<bf16, double>(where);
  check_converts<double, float>(where);
  check_converts<double, bf16>(where);
  check_converts<double, double>(where);
}

/// Every type, any alignment, and nothing beside.
inline void check_fill(Device where) {
  check_fill(where, -1.5f);
  check_fill(where, bf16(3.0f));
  check_fill(where, 1e300);
  check_fill(where, int32_t(-7));
  check_fill(where, int64_t(1) << 40);
}

}  // namespace libtrain::testing
