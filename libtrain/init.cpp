#include "libtrain/init.h"

#include <cmath>
#include <map>
#include <numbers>

namespace libtrain::init {
namespace {

void check_matrix(const char* name, const Shape& shape) {
  LIBTRAIN_CHECK(shape.rank() == 2,
                 "[{}] expected a weight [fan_out, fan_in], got {}; normal() and uniform() take any shape", name,
                 shape.str());
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Gram and Schmidt, twice, so that rounding leaves no share of an earlier row. The rows begin independent.
void orthonormalize(std::span<double> values, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; ++r) {
    const auto row = values.subspan(r * columns, columns);
    for (size_t i = 0; i < 2 * r; ++i) {
      const auto other = values.subspan(i % r * columns, columns);
      const double share = dot(row, other);
      for (size_t c = 0; c < columns; ++c) row[c] -= share * other[c];
    }
    const double length = std::sqrt(dot(row, row));
    for (double& value : row) value /= length;
  }
}

}  // namespace

Initializer constant(double value) {
  return [value](std::span<double> values, const Shape&, const auto&) { std::ranges::fill(values, value); };
}

Initializer uniform(double low, double high) {
  return [=](std::span<double> values, const Shape&, const auto& generator) {
    for (double& value : values) value = low + (high - low) * generator();
  };
}

Initializer normal(double mean, double stddev) {
  return [=](std::span<double> values, const Shape&, const auto& generator) {
    for (double& value : values) {  // Box and Muller
      const double radius = std::sqrt(-2 * std::log1p(-generator()));
      value = mean + stddev * radius * std::cos(2 * std::numbers::pi * generator());
    }
  };
}

Initializer xavier_uniform(double gain) {
  return [gain](std::span<double> values, const Shape& shape, const auto& generator) {
    check_matrix("xavier_uniform", shape);
    const double bound = gain * std::sqrt(6.0 / double(shape[0] + shape[1]));
    uniform(-bound, bound)(values, shape, generator);
  };
}

Initializer xavier_normal(double gain) {
  return [gain](std::span<double> values, const Shape& shape, const auto& generator) {
    check_matrix("xavier_normal", shape);
    normal(0, gain * std::sqrt(2.0 / double(shape[0] + shape[1])))(values, shape, generator);
  };
}

Initializer kaiming_uniform() {
  return [](std::span<double> values, const Shape& shape, const auto& generator) {
    check_matrix("kaiming_uniform", shape);
    const double bound = std::sqrt(6.0 / double(shape[1]));
    uniform(-bound, bound)(values, shape, generator);
  };
}

Initializer kaiming_normal() {
  return [](std::span<double> values, const Shape& shape, const auto& generator) {
    check_matrix("kaiming_normal", shape);
    normal(0, std::sqrt(2.0 / double(shape[1])))(values, shape, generator);
  };
}

Initializer orthogonal(double gain) {
  return [gain](std::span<double> values, const Shape& shape, const auto& generator) {
    check_matrix("orthogonal", shape);
    const size_t rows = size_t(shape[0]), columns = size_t(shape[1]), few = std::min(rows, columns),
                 many = std::max(rows, columns);
    std::vector<double> wide(values.size());
    normal(0, 1)(wide, shape, generator);
    orthonormalize(wide, few, many);
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < columns; ++c)
        values[r * columns + c] = gain * (rows <= columns ? wide[r * columns + c] : wide[c * rows + r]);
  };
}

Initializer by_name(std::string_view name) {
  static const std::map<std::string, Initializer, std::less<>> kAll{
      {"zeros", constant(0)},
      {"ones", constant(1)},
      {"xavier_uniform", xavier_uniform()},
      {"xavier_normal", xavier_normal()},
      {"kaiming_uniform", kaiming_uniform()},
      {"kaiming_normal", kaiming_normal()},
      {"orthogonal", orthogonal()},
  };
  if (const auto found = kAll.find(name); found != kAll.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, initializer] : kAll) names.push_back(known);
  std::string all;
  for (const std::string& known : names) all += (all.empty() ? "" : ", ") + known;
  throw InvalidArgument(
      format_message("[init] no initializer is named '{}'{}; there are {}", name, did_you_mean(name, names), all));
}

}  // namespace libtrain::init
