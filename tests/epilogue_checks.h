/// What a product that applies bias and activation itself must give on any device.
#pragma once
#include "catch.h"
#include "op_checks.h"

namespace libtrain::testing {

/// The same as with a kernel for bias and activation, but for one rounding, at any shape.
inline void check_activation_in_product(Device where) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const Activation activation : {Activation::kRelu, Activation::kGeluTanh})
      for (const auto& [rows, inputs, outputs] :
           {std::tuple<int64_t, int64_t, int64_t>{5, 7, 3}, {129, 31, 65}, {4, 0, 9}, {0, 3, 5}, {1, 64, 128}}) {
        INFO(name(where) << " " << name(dtype) << ": activation " << int(activation) << ", " << rows << "x" << inputs
                         << " to " << outputs);
        Generator generator(3);
        const auto random = [&](const Shape& shape) {
          Values values(static_cast<size_t>(shape.numel()));
          normal()(values, generator);
          return Tensor::from(std::span<const double>(values), shape).cast(dtype).to(where);
        };
        const Tensor x = random({rows, inputs}), weight = random({outputs, inputs}), bias = random({outputs});
        const Values together = values_of(detail::activation_in_product(x, weight, bias, activation));
        const Values apart = values_of(bias_activation(linear(x, weight), bias, activation));
        // Four roundings of the largest value; for sums, as in bound().
        OpCase row;
        row.terms = inputs;
        CHECK(worst_difference(together, apart) <= bound(row, dtype, apart));
      }
}

/// A batch: each product gets its activation, and gaps between the results stay as they are.
inline void check_activations_of_batch(Device where) {
  const Tensor a = Tensor::from<float>({1, -1, 2, -2, 3, -3}, {6}, where), b = Tensor::full({1}, 1, DType::f32, where);
  const Tensor c = Tensor::full({8}, -9, DType::f32, where);
  detail::run_gemm(where, kernels::Gemm<float, float>{.a = {a.view<const float>().data, {2, 1, 1, 1}},
                                                      .b = {b.view<const float>().data, {1, 1, 1, 1}},
                                                      .activation = kernels::GemmActivation::kRelu,
                                                      .c = {c.view<float>().data},
                                                      .batch = {3, 2, 0, 3}});
  CHECK(values_of(c) == Values{1, 0, -9, 2, 0, -9, 3, 0});
}

}  // namespace libtrain::testing
