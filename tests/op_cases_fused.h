/// Rows of the table for operations that do in one pass what others do in several: bias_activation and
/// add_dropout_layer_norm.
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

/// Packed rows are made by a recorded operation that nobody else reads, so that their gradient overwrites them.
inline Tensor overwritable(const Tensor& x, bool packed) { return packed ? scale(x, 2) : x; }
inline Values overwritable(Values x, bool packed) {
  for (double& value : x) value *= packed ? 2 : 1;
  return x;
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
                return bias_activation(overwritable(in[0], packed), in[1], activation, dropped.packing(where),
                                       dropped.spec(where));
              },
          .reference =
              [=](const Inputs& in) {
                Values y = add_reference({overwritable(in[0], packed), in[1]});
                for (double& value : y) value = activation_reference(activation, value);
                return dropped.reference(y, columns);
              },
          .terms = shape.rows(),
          .elements = 2.0 * double(shape.numel()),
          .flops = 2.0 * double(shape.numel()),
          .big = big};
}

/// With ReLU, bias decides which columns are 0: products stay near the middle, away from the kink.
inline OpCase linear_activation_row(int64_t rows, int64_t inputs, int64_t outputs, float p, Activation activation,
                                    bool big = false) {
  const DropoutCase dropped{rows, p, true};
  const bool kink = activation == Activation::kRelu;
  return {
      .name = format_message("linear_activation {}{}x{} to {} p {:.2g}", kink ? "relu " : "", rows, inputs, outputs, p),
      .inputs = {{{rows, inputs}},
                 {{outputs, inputs}, normal(kink ? 0.02 / std::sqrt(double(inputs)) : 1)},
                 {{outputs}, kink ? away_from_zero() : normal()}},
      .call =
          [=](const auto& in) {
            const auto tape = dropped.tape();
            const Device where = in[0].device();
            return linear_activation(in[0], in[1], in[2], activation, dropped.packing(where), dropped.spec(where));
          },
      .reference =
          [=](const Inputs& in) {
            Values y = linear_reference(in, rows, inputs, outputs, true);
            for (double& value : y) value = activation_reference(activation, value);
            return dropped.reference(y, outputs);
          },
      .terms = std::max({rows, inputs, outputs}),
      .elements = double(rows * inputs + outputs * inputs + rows * outputs),
      .flops = 2.0 * double(rows * inputs * outputs),
      .big = big};
}

/// Which results of add_dropout_layer_norm are used: y, x, or y + 0.7 x.
enum class Used { kY, kX, kBoth };

inline OpCase add_dropout_layer_norm_row(int64_t rows, int64_t columns, float p, bool packed, bool branch_bias,
                                         Used used, bool big = false) {
  constexpr const char* kNames[] = {"y", "x", "both"};
  const DropoutCase dropped{rows, p, packed};
  OpCase row{.name = format_message("add_dropout_layer_norm {}x{} p {:.2g}{}{} {}", rows, columns, p,
                                    packed ? " packed" : "", branch_bias ? " bias" : "", kNames[int(used)]),
             .inputs = {{{rows, columns}}, {{rows, columns}}, {{columns}}, {{columns}}},
             .call =
                 [=](const auto& in) {
                   const auto tape = dropped.tape();
                   const Device where = in[0].device();
                   const NormalizedSum sum =
                       add_dropout_layer_norm(in[0], overwritable(in[1], packed), branch_bias ? in[4] : Tensor(), in[2],
                                              in[3], dropped.packing(where), dropped.spec(where));
                   if (used == Used::kBoth) return add(sum.y, scale(sum.x, 0.7));
                   return used == Used::kY ? sum.y : sum.x;
                 },
             .reference =
                 [=](const Inputs& in) {
                   Values branch = overwritable(in[1], packed);
                   if (branch_bias) branch = add_reference({branch, in[4]});
                   const Values x = add_reference({in[0], dropped.reference(branch, columns)});
                   Values y = layer_norm_reference({x, in[2], in[3]}, columns, 1e-5);
                   for (size_t i = 0; used == Used::kBoth && i < y.size(); ++i) y[i] += 0.7 * x[i];
                   return used == Used::kX ? x : y;
                 },
             .terms = std::max(rows, columns),
             .elements = 4.0 * double(rows * columns),
             .flops = 10.0 * double(rows * columns),
             .big = big};
  if (branch_bias) row.inputs.push_back({{columns}});
  return row;
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
    rows.push_back(bias_activation_row({30, 2048}, kGelu, p, false));
    rows.push_back(bias_activation_row({129, 31}, kGelu, p, true));
    rows.push_back(bias_activation_row({31, 129}, kRelu, p, false));
    rows.push_back(bias_activation_row({2, 8003}, kGeluTanh, p, true));
    rows.push_back(bias_activation_row({300, 127}, kRelu, p, true, true));
    for (const Activation activation : {kRelu, kGeluTanh})
      rows.push_back(linear_activation_row(31, 33, 129, p, activation));
    rows.push_back(linear_activation_row(1000, 128, 512, p, kGeluTanh, true));
    rows.push_back(bias_activation_row({1024, 2048}, kRelu, p, true, true));
    // As layer_norm: odd sizes, rows of a warp, of two and of a block, more of them than groups walk side by side, and longer ones.
    for (const Used used : {Used::kY, Used::kX, Used::kBoth}) {
      rows.push_back(add_dropout_layer_norm_row(5, 33, p, true, true, used));
      rows.push_back(add_dropout_layer_norm_row(100, 64, p, used == Used::kX, true, used));
    }
    rows.push_back(add_dropout_layer_norm_row(31, 129, p, true, false, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(129, 31, p, false, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(2, 8003, p, true, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(0, 8, p, false, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(1, 1, p, false, false, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(3, 1000, p, false, false, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(100, 504, p, false, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(100, 1000, p, true, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(20, 1032, p, true, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(3, 4104, p, true, true, Used::kBoth));
    rows.push_back(add_dropout_layer_norm_row(4096, 512, p, true, true, Used::kBoth, true));
  }
}

}  // namespace libtrain::testing
