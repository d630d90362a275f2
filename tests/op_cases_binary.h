/// Rows of the table for operations on two tensors of different shapes (add, sub, mul, div, where, masked_fill), and
/// on a tensor and a number.
#pragma once
#include "op_cases_moves.h"
#include "op_cases_rowwise.h"

namespace libtrain::testing {

/// The element of an argument that meets `index` of the result.
inline double broadcast_element(const Values& values, const Shape& shape, std::vector<int64_t> index) {
  index.erase(index.begin(), index.end() - shape.rank());
  for (int d = 0; d < shape.rank(); ++d) index[size_t(d)] = shape[d] == 1 ? 0 : index[size_t(d)];
  return values[position_of(shape, index)];
}

using Binary = Tensor (*)(const Tensor&, const Tensor&);

inline OpCase binary_row(const std::string& op, Binary function, double (*formula)(double, double), const Shape& a,
                         const Shape& b, const Shape& result, bool big = false) {
  // What is divided by lies away from zero.
  const Fill fill_b = op == "div" ? positive() : normal();
  return {.name = format_message("{} {} {}", op, a.str(), b.str()),
          .inputs = {{a}, {b, fill_b}},
          .call = [=](const auto& in) { return function(in[0], in[1]); },
          .reference =
              [=](const Inputs& in) {
                Values y(size_t(result.numel()));
                for_each_index(result, [&](const std::vector<int64_t>& index, size_t i) {
                  y[i] = formula(broadcast_element(in[0], a, index), broadcast_element(in[1], b, index));
                });
                return y;
              },
          .terms = std::max<int64_t>(result.numel() / std::max<int64_t>(std::min(a.numel(), b.numel()), 1), 1),
          .elements = double(a.numel() + b.numel() + result.numel()),
          .flops = double(result.numel()),
          .big = big};
}

inline void add_binary_rows(std::vector<OpCase>& rows, const Shape& a, const Shape& b, const Shape& result,
                            bool big = false) {
  const auto add_row = [&](const char* op, Binary function, double (*formula)(double, double)) {
    rows.push_back(binary_row(op, function, formula, a, b, result, big));
  };
  if (a != result || (b != result && b.rank() != 1))  // the others have rows of their own
    add_row("add", add, [](double x, double y) { return x + y; });
  add_row("sub", sub, [](double x, double y) { return x - y; });
  add_row("mul", mul, [](double x, double y) { return x * y; });
  add_row(
      "div", [](const Tensor& x, const Tensor& y) { return div(x, y); }, [](double x, double y) { return x / y; });
}

/// Operations on a tensor and a number.
inline void add_number_rows(std::vector<OpCase>& rows, const Shape& shape) {
  const auto add_row = [&](const char* op, Tensor (*function)(const Tensor&), double (*formula)(double)) {
    rows.push_back(elementwise_row(op, shape, function, formula, positive()));
  };
  add_row(
      "add 1.5", [](const Tensor& x) { return add(x, 1.5); }, [](double x) { return x + 1.5; });
  add_row(
      "sub 3", [](const Tensor& x) { return sub(x, 3); }, [](double x) { return x - 3; });
  add_row(
      "1 sub", [](const Tensor& x) { return sub(1, x); }, [](double x) { return 1 - x; });
  add_row(
      "mul -0.5f", [](const Tensor& x) { return mul(x, -0.5f); }, [](double x) { return -0.5 * x; });
  add_row(
      "div 3", [](const Tensor& x) { return div(x, 3); }, [](double x) { return x / 3; });
  add_row(
      "2 div", [](const Tensor& x) { return div(2, x); }, [](double x) { return 2 / x; });
}

inline OpCase where_row(const Shape& mask, const Shape& a, const Shape& b, const Shape& result, bool big = false) {
  return {.name = format_message("where {} {} {}", mask.str(), a.str(), b.str()),
          .inputs = {{a}, {b}, {mask, mask.numel() == 1 ? exactly({1}) : integers(0, 2), DType::i32}},
          .call = [](const auto& in) { return where(in[2], in[0], in[1]); },
          .reference =
              [=](const Inputs& in) {
                Values y(size_t(result.numel()));
                for_each_index(result, [&](const std::vector<int64_t>& index, size_t i) {
                  y[i] = broadcast_element(in[2], mask, index) != 0 ? broadcast_element(in[0], a, index)
                                                                    : broadcast_element(in[1], b, index);
                });
                return y;
              },
          .terms = std::max<int64_t>(result.numel() / std::max<int64_t>(std::min(a.numel(), b.numel()), 1), 1),
          .elements = double(a.numel() + b.numel() + mask.numel() + result.numel()),
          .big = big};
}

inline OpCase masked_fill_row(const Shape& x, const Shape& mask, bool big = false) {
  return {.name = format_message("masked_fill {} {}", x.str(), mask.str()),
          .inputs = {{x}, {mask, integers(0, 2), DType::i32}},
          .call = [](const auto& in) { return masked_fill(in[0], in[1], -2.5); },
          .reference =
              [=](const Inputs& in) {
                Values y = in[0];
                for_each_index(x, [&](const std::vector<int64_t>& index, size_t i) {
                  if (broadcast_element(in[1], mask, index) != 0) y[i] = -2.5;
                });
                return y;
              },
          .elements = double(2 * x.numel() + mask.numel()),
          .big = big};
}

inline void add_select_rows(std::vector<OpCase>& rows) {
  for (const auto& [mask, a, b, result] : {std::tuple<Shape, Shape, Shape, Shape>{{3, 33}, {3, 33}, {3, 33}, {3, 33}},
                                           {{5, 32}, {5, 32}, {5, 32}, {5, 32}},
                                           {{127}, {3, 1}, {127}, {3, 127}},
                                           {{4, 1}, {31}, {4, 31}, {4, 31}},
                                           {{2, 1, 8}, {3, 1}, {}, {2, 3, 8}},
                                           {{2, 8}, {2, 1}, {8}, {2, 8}},
                                           {{1}, {1}, {1}, {1}},
                                           {{0, 3}, {3}, {0, 3}, {0, 3}}})
    rows.push_back(where_row(mask, a, b, result));
  rows.push_back(where_row({1024, 512}, {1024, 512}, {1024, 512}, {1024, 512}, true));
  for (const auto& [x, mask] : {std::pair<Shape, Shape>{{3, 33}, {33}},
                                {{2, 3, 4, 8}, {2, 1, 1, 8}},
                                {{2, 3, 4, 8}, {4, 8}},
                                {{127, 31}, {127, 1}},
                                {{10001}, {10001}},
                                {{2, 3}, {2, 3}},
                                {{0, 3}, {3}}})
    rows.push_back(masked_fill_row(x, mask));
  rows.push_back(masked_fill_row({8, 8, 128, 128}, {8, 1, 1, 128}, true));
  rows.push_back(masked_fill_row({3, 8003}, {8003}, true));
}

inline void add_binary_cases(std::vector<OpCase>& rows) {
  // Equal; a row, a column, one number, on either side; both repeated; dimensions in the middle and at both ends; with and without packs.
  for (const auto& [a, b, result] : {std::tuple<Shape, Shape, Shape>{{3, 33}, {3, 33}, {3, 33}},
                                     {{127}, {127}, {127}},
                                     {{}, {}, {}},
                                     {{3, 31}, {31}, {3, 31}},
                                     {{1}, {127}, {127}},
                                     {{31}, {}, {31}},
                                     {{5, 32}, {5, 1}, {5, 32}},
                                     {{64}, {70, 64}, {70, 64}},
                                     {{33, 1}, {1, 7}, {33, 7}},
                                     {{8}, {3, 1}, {3, 8}},
                                     {{2, 1, 32}, {2, 5, 32}, {2, 5, 32}},
                                     {{2, 3, 1, 8}, {3, 5, 1}, {2, 3, 5, 8}},
                                     {{2, 1, 5, 1}, {2, 3, 1, 7}, {2, 3, 5, 7}},
                                     {{2, 1, 3, 1, 1, 4}, {3, 5, 2, 4}, {2, 1, 3, 5, 2, 4}},
                                     {{0, 3}, {3}, {0, 3}},
                                     {{2, 0}, {2, 1}, {2, 0}},
                                     {{1, 1}, {1}, {1, 1}},
                                     {{300, 2}, {300, 1}, {300, 2}},
                                     {{2, 5000}, {2, 1}, {2, 5000}}})
    add_binary_rows(rows, a, b, result);
  for (const auto& [a, b, result] : {std::tuple<Shape, Shape, Shape>{{3, 8003}, {8003}, {3, 8003}},
                                     {{1024, 512}, {512}, {1024, 512}},
                                     {{1024, 512}, {1024, 1}, {1024, 512}},
                                     {{16, 64, 512}, {16, 1, 512}, {16, 64, 512}},
                                     {{1024, 512}, {1024, 512}, {1024, 512}}})
    add_binary_rows(rows, a, b, result, true);
  add_select_rows(rows);
  for (const Shape& shape : {Shape{3, 33}, Shape{}, Shape{0}}) add_number_rows(rows, shape);
}

}  // namespace libtrain::testing
