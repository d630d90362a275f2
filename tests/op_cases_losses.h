/// Rows of the table for losses of all elements: binary_cross_entropy_with_logits, mse_loss.
#pragma once
#include "references.h"

namespace libtrain::testing {

inline OpCase mean_loss_row(const std::string& op, Tensor (*function)(const Tensor&, const Tensor&),
                            double (*formula)(double, double), const Fill& targets, const Shape& shape,
                            bool big = false) {
  return {.name = format_message("{} {}", op, shape.str()),
          .inputs = {{shape, normal(3)}, {shape, targets}},
          .call = [=](const auto& in) { return function(in[0], in[1]); },
          .reference =
              [=](const Inputs& in) {
                double sum = 0;
                for (size_t i = 0; i < in[0].size(); ++i) sum += formula(in[0][i], in[1][i]);
                return Values{sum / double(in[0].size())};
              },
          .terms = shape.numel(),
          .elements = 2.0 * double(shape.numel()),
          .flops = 8.0 * double(shape.numel()),
          .big = big};
}

inline void add_loss_cases(std::vector<OpCase>& rows) {
  const auto add = [&](const Shape& shape, bool big) {
    rows.push_back(mean_loss_row(
        "binary_cross_entropy_with_logits", binary_cross_entropy_with_logits,
        [](double x, double z) {
          const double p = 1 / (1 + std::exp(-x));
          return -z * std::log(p) - (1 - z) * std::log(1 - p);
        },
        integers(0, 2), shape, big));
    rows.push_back(mean_loss_row(
        "mse_loss", mse_loss, [](double x, double z) { return (x - z) * (x - z); }, normal(), shape, big));
  };
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{3, 33}, Shape{2, 64}, Shape{127}, Shape{8003}})
    add(shape, false);
  add({1024, 512}, true);
}

}  // namespace libtrain::testing
