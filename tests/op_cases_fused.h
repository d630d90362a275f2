/// Rows of the table for operations that do in one pass what others do in several: bias_activation.
#pragma once
#include <numbers>

#include "dropout_case.h"

namespace libtrain::testing {

inline double activation_reference(Activation activation, double x) {
  switch (activation) {
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kGelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2)));
    case Activation::kGeluTanh:
      break;
  }
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

inline OpCase bias_activation_row(const Shape& shape, Activation activation, float p, bool packed, bool big = false) {
  constexpr const char* kNames[] = {"relu", "gelu", "gelu_tanh"};
  const int64_t columns = shape[-1];
  const DropoutCase dropped{shape.rows(), p, packed};
  const bool kink = activation == Activation::kRelu;  // x + bias must keep away from it
  return {.name = format_message("bias_activation {} {} p {:.2g}{}", kNames[int(activation)], shape.str(), p,
                                 packed ? " packed" : ""),
          .inputs = {{shape, kink ? away_from_zero() : normal()}, {{columns}, normal(kink ? 0.005 : 1)}},
          .call =
              [=](const auto& in) {
                const auto tape = dropped.tape();
                const Device where = in[0].device();
                return bias_activation(in[0], in[1], activation, dropped.packing(where), dropped.spec(where));
              },
          .reference =
              [=](const Inputs& in) {
                Values y = add_reference(in);
                for (double& value : y) value = activation_reference(activation, value);
                return dropped.reference(y, columns);
              },
          .terms = shape.rows(),
          .elements = 2.0 * double(shape.numel()),
          .flops = 2.0 * double(shape.numel()),
          .big = big};
}

inline void add_fused_cases(std::vector<OpCase>& rows) {
  using enum Activation;
  for (const Activation activation : {kRelu, kGelu, kGeluTanh})
    for (const float p : {0.0f, 0.3f}) {
      // Odd columns; several blocks of columns, of whole packs; more rows than a grid takes at once.
      rows.push_back(bias_activation_row({5, 33}, activation, p, p > 0));
      rows.push_back(bias_activation_row({70, 8}, activation, p, false));
      rows.push_back(bias_activation_row({3, 520}, activation, p, false));
    }
  for (const float p : {0.0f, 0.1f}) {
    rows.push_back(bias_activation_row({2, 3, 1}, kGelu, p, false));
    rows.push_back(bias_activation_row({0, 16}, kGelu, p, true));
    rows.push_back(bias_activation_row({300, 127}, kRelu, p, true, true));
    rows.push_back(bias_activation_row({1024, 2048}, kRelu, p, true, true));
  }
}

}  // namespace libtrain::testing
