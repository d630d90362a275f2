/// Rows of the table for operations on elements and rows: add, scale, relu, gelu, dropout, embedding, slice and
/// unpack_rows.
#pragma once
#include <numbers>

#include "dropout_case.h"

namespace libtrain::testing {

/// Greater than 0.3: for functions that are steep at zero.
inline Fill positive() {
  return [](Values& values, Generator& generator) {
    normal()(values, generator);
    for (double& value : values) value = 0.3 + std::abs(value);
  };
}

inline OpCase elementwise_row(const std::string& op, const Shape& shape, Tensor (*function)(const Tensor&),
                              double (*formula)(double), const Fill& fill, bool big = false) {
  return {.name = format_message("{} {}", op, shape.str()),
          .inputs = {{shape, fill}},
          .call = [=](const auto& in) { return function(in[0]); },
          .reference =
              [=](const Inputs& in) {
                Values y = in[0];
                for (double& value : y) value = formula(value);
                return y;
              },
          .elements = 2.0 * double(shape.numel()),
          .flops = double(shape.numel()),
          .big = big};
}

/// The operations on single elements, each in one shape.
inline void add_elementwise_rows(std::vector<OpCase>& rows, const Shape& shape, bool big = false) {
  const auto add = [&](const char* op, Tensor (*function)(const Tensor&), double (*formula)(double),
                       const Fill& fill = away_from_zero()) {
    rows.push_back(elementwise_row(op, shape, function, formula, fill, big));
  };
  add("relu", relu, [](double x) { return x > 0 ? x : 0; });
  add(
      "scale", [](const Tensor& x) { return scale(x, -1.7); }, [](double x) { return -1.7 * x; });
  add(
      "gelu", [](const Tensor& x) { return gelu(x); },
      [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2))); });
  add(
      "gelu_tanh", [](const Tensor& x) { return gelu(x, GeluForm::kTanh); },
      [](double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))); });
  add(
      "tanh", [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); });
  add("neg", neg, [](double x) { return -x; });
  add("sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); });
  add("silu", silu, [](double x) { return x / (1 + std::exp(-x)); });
  add(
      "exp", [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); });
  add(
      "log", [](const Tensor& x) { return log(x); }, [](double x) { return std::log(x); }, positive());
  add(
      "sqrt", [](const Tensor& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, positive());
}

inline OpCase add_row(const Shape& a, const Shape& b, bool big = false) {
  return {.name = format_message("add {} {}", a.str(), b.str()),
          .inputs = {{a}, {b}},
          .call = [](const auto& in) { return add(in[0], in[1]); },
          .reference = add_reference,
          .terms = b.numel() ? a.numel() / b.numel() : 1,
          .elements = 2.0 * double(a.numel()) + double(b.numel()),
          .flops = double(a.numel()),
          .big = big};
}

inline OpCase dropout_row(int64_t rows, int64_t columns, float p, bool packed, bool residual, bool big = false) {
  const DropoutCase dropped{rows, p, packed};
  OpCase row{.name = format_message("dropout{} {}x{} p {:.2g}{}", residual ? "_add" : "", rows, columns, p,
                                    packed ? " packed" : ""),
             .inputs = {{{rows, columns}}},
             .call =
                 [=](const auto& in) {
                   const auto tape = dropped.tape();
                   const Packing packing = dropped.packing(in[0].device());
                   const DropoutSpec spec = dropped.spec(in[0].device());
                   return residual ? dropout_add(in[1], in[0], packing, spec) : dropout(in[0], packing, spec);
                 },
             .reference =
                 [=](const Inputs& in) {
                   const Values y = dropped.reference(in[0], columns);
                   return residual ? add_reference({y, in[1]}) : y;
                 },
             .elements = (residual ? 3.0 : 2.0) * double(rows * columns),
             .flops = double(rows * columns),
             .big = big};
  if (residual) row.inputs.push_back({{rows, columns}});
  return row;
}

inline OpCase embedding_row(int64_t tokens, int64_t vocab, int64_t columns, bool positions, int32_t pad_id,
                            bool big = false) {
  OpCase row{.name = format_message("embedding {} of {}x{}{} pad {}", tokens, vocab, columns,
                                    positions ? " positions" : "", pad_id),
             .inputs = {{{tokens}, integers(0, vocab), DType::i32}, {{vocab, columns}}},
             .call =
                 [=](const auto& in) {
                   return positions ? embedding(in[0], in[1], 1.5, in[2], in[3], pad_id)
                                    : embedding(in[0], in[1], 1.5, {}, {}, pad_id);
                 },
             .reference = [=](const Inputs& in) { return embedding_reference(in, columns, 1.5, pad_id); },
             .terms = tokens,
             .elements = 2.0 * double(tokens * columns),
             .flops = 2.0 * double(tokens * columns),
             .big = big};
  if (!positions) return row;
  row.inputs.push_back({.shape = {9, columns}, .differentiable = false});
  row.inputs.push_back({{tokens}, integers(0, 9), DType::i32});
  return row;
}

/// embedding with dropout: ids of packed sequences with their positions, or of no sequences and without.
inline OpCase dropped_embedding_row(int64_t tokens, int64_t vocab, int64_t columns, float p, bool packed,
                                    int32_t pad_id, bool big = false) {
  const DropoutCase dropped{tokens, p, packed};
  OpCase row = embedding_row(tokens, vocab, columns, packed, pad_id, big);
  row.name += format_message(" p {:.2g}", p);
  if (packed) {
    row.inputs.pop_back();  // positions are those of the packing
    row.inputs[2].shape = {std::max<int64_t>(tokens, 1), columns};
  }
  row.call = [=](const auto& in) {
    const auto tape = dropped.tape();
    const Device where = in[1].device();
    return embedding(in[0], in[1], 1.5, packed ? in[2] : Tensor(), dropped.packing(where), pad_id, dropped.spec(where));
  };
  row.reference = [=](const Inputs& in) {
    Inputs with_positions = in;
    if (packed) with_positions.push_back(dropped.positions());
    return dropped.reference(embedding_reference(with_positions, columns, 1.5, pad_id), columns);
  };
  return row;
}

/// Two slices of one tensor, used together: apart, overlapping or the same.
inline OpCase slices_row(int64_t rows, int64_t columns, int64_t first, int64_t second, int64_t count,
                         bool big = false) {
  return {.name = format_message("slice {}x{} at {} and {}, {} rows", rows, columns, first, second, count),
          .inputs = {{{rows, columns}}},
          .call =
              [=](const auto& in) {
                return add(slice(in[0], first, first + count), scale(slice(in[0], second, second + count), 3));
              },
          .reference =
              [=](const Inputs& in) {
                Values y(size_t(count * columns));
                for (size_t i = 0; i < y.size(); ++i)
                  y[i] = in[0][i + size_t(first * columns)] + 3 * in[0][i + size_t(second * columns)];
                return y;
              },
          .elements = 3.0 * double(count * columns),
          .flops = 2.0 * double(count * columns),
          .big = big};
}

inline OpCase unpack_rows_row(int64_t tokens, int64_t columns, const Values& index, bool big = false) {
  return {.name = format_message("unpack_rows {} from {}x{}", index.size(), tokens, columns),
          .inputs = {{{tokens, columns}}, {{int64_t(index.size())}, exactly(index), DType::i32}},
          .call = [](const auto& in) { return unpack_rows(in[0], in[1]); },
          .reference = [=](const Inputs& in) { return unpack_rows_reference(in, columns); },
          .elements = 2.0 * double(int64_t(index.size()) * columns),
          .big = big};
}

inline void add_rowwise_cases(std::vector<OpCase>& rows) {
  for (const Shape& shape : {Shape{3, 33}, Shape{127}, Shape{2, 1, 31}, Shape{0, 4}, Shape{}})
    add_elementwise_rows(rows, shape);
  add_elementwise_rows(rows, {129});
  add_elementwise_rows(rows, {50001});  // more packs than a small device's grid takes at once, and a rest
  for (const Shape& shape : {Shape{8003}, Shape{1024, 512}}) add_elementwise_rows(rows, shape, true);
  for (const auto& [r, c] :
       {std::pair<int64_t, int64_t>{3, 33}, {127, 31}, {1, 1}, {0, 8}, {2, 127}, {3, 8003}, {1024, 512}})
    for (const bool bias : {false, true}) rows.push_back(add_row({r, c}, bias ? Shape{c} : Shape{r, c}, r * c > 8000));
  for (const auto& [r, c] : {std::pair<int64_t, int64_t>{31, 129}, {2, 8003}}) {
    rows.push_back(add_row({r, c}, {r, c}));
    rows.push_back(add_row({r, c}, {c}));
    rows.push_back(dropout_row(r, c, 0.3f, true, true));
  }
  rows.push_back(add_row({30, 2048}, {2048}));  // whole packs, more rows than a small device's grid takes at once
  rows.push_back(dropout_row(30, 2048, 0.3f, true, false));
  rows.push_back(dropout_row(5, 64, 0.1f, true, true));
  for (const auto& [r, c] :
       {std::pair<int64_t, int64_t>{3, 33}, {31, 1}, {7, 127}, {0, 8}, {1, 129}, {9, 8003}, {1024, 512}})
    for (const bool packed : {false, true}) {
      rows.push_back(dropout_row(r, c, 0.3f, packed, false, r * c > 8000));
      rows.push_back(dropout_row(r, c, 0.1f, packed, true, r * c > 8000));
    }
  for (const auto& [t, v, c] :
       {std::tuple<int64_t, int64_t, int64_t>{31, 5, 33}, {3, 127, 1}, {1, 1, 1}, {0, 4, 8}, {127, 3, 65}})
    for (const bool positions : {false, true}) rows.push_back(embedding_row(t, v, c, positions, v > 1 ? 1 : -1));
  rows.push_back(embedding_row(1000, 40, 128, true, 0, true));
  rows.push_back(embedding_row(100, 8003, 128, false, -1, true));
  // CUDA: more than one slice of columns, ids of three digits, ids that reach over many windows, chunks of more than one tile
  rows.push_back(embedding_row(70, 30, 264, true, 0));
  rows.push_back(embedding_row(33, 8003, 129, true, 0));
  rows.push_back(embedding_row(129, 31, 127, false, -1));
  rows.push_back(embedding_row(70, 300000, 1, false, -1));
  rows.push_back(embedding_row(3000, 2, 8, false, -1));
  rows.push_back(embedding_row(17000, 600, 1, false, 7));
  for (const bool packed : {false, true}) {
    for (const auto& [t, v, c] :
         {std::tuple<int64_t, int64_t, int64_t>{31, 5, 33}, {7, 1, 1}, {0, 4, 8}, {129, 3, 264}})
      rows.push_back(dropped_embedding_row(t, v, c, 0.3f, packed, v > 1 ? 1 : -1));
    rows.push_back(dropped_embedding_row(33, 20, 64, 0.1f, packed, -1));
    rows.push_back(dropped_embedding_row(1000, 40, 512, 0.1f, packed, 0, true));
  }
  for (const auto& [first, second, count] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 4, 2}, {0, 1, 6}, {2, 2, 3}, {7, 0, 0}})
    rows.push_back(slices_row(7, 33, first, second, count));
  rows.push_back(slices_row(131, 31, 2, 0, 129));
  rows.push_back(slices_row(1024, 512, 0, 512, 512, true));
  rows.push_back(unpack_rows_row(5, 33, {3, -1, 0, 4, -1, 1}));
  rows.push_back(unpack_rows_row(127, 129, {126, -1, 0, 64, -1, 31}));
  rows.push_back(unpack_rows_row(3, 1, {}));
  rows.push_back(unpack_rows_row(0, 8, {-1}));
  Values spread(1024, -1);
  for (size_t i = 0; i < 700; ++i) spread[i + i / 3] = double(i);
  rows.push_back(unpack_rows_row(700, 512, spread, true));
}

}  // namespace libtrain::testing
