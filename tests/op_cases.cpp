#include "op_cases.h"

#include "op_cases_attention.h"
#include "op_cases_binary.h"
#include "op_cases_dims.h"
#include "op_cases_fused.h"
#include "op_cases_losses.h"
#include "op_cases_moves.h"
#include "op_cases_norm.h"
#include "op_cases_rowwise.h"
#include "references.h"

namespace libtrain::testing {

// ---- The rows -----------------------------------------------------------------------------------------------------------

namespace {

OpCase matmul_row(int64_t m, int64_t n, int64_t k, MatmulOptions options, bool big = false) {
  const Shape a = options.transpose_a ? Shape{k, m} : Shape{m, k}, b = options.transpose_b ? Shape{n, k} : Shape{k, n};
  return {.name = format_message("matmul {}x{}x{}{}{}", m, n, k, options.transpose_a ? " ta" : "",
                                 options.transpose_b ? " tb" : ""),
          .inputs = {{a}, {b}},
          .call = [=](const auto& in) { return matmul(in[0], in[1], options); },
          .reference =
              [=](const Inputs& in) { return matmul_reference(in, m, n, k, options.transpose_a, options.transpose_b); },
          .terms = std::max({m, n, k}),
          .elements = double(m * k + k * n + m * n),
          .flops = 2.0 * double(m * n * k),
          .big = big};
}

/// `batch` products, of as many b or of one.
OpCase matmul_batch_row(const Shape& batch, int64_t m, int64_t n, int64_t k, MatmulOptions options, bool shares_b,
                        bool big = false) {
  const OpCase one = matmul_row(m, n, k, options, big);
  const auto stacked = [&](const Shape& matrix) {
    std::vector<int64_t> dims(batch.dims().begin(), batch.dims().end());
    dims.insert(dims.end(), {matrix[0], matrix[1]});
    return Shape(std::span<const int64_t>(dims));
  };
  OpCase row = one;
  const auto count = size_t(batch.numel());
  row.name += format_message(" batch {}{}", batch.str(), shares_b ? " one b" : "");
  row.inputs[0].shape = stacked(one.inputs[0].shape);
  if (!shares_b) row.inputs[1].shape = stacked(one.inputs[1].shape);
  row.reference = [=, size_a = size_t(m * k), size_b = size_t(k * n)](const Inputs& in) {
    const auto part = [](const Values& values, size_t index, size_t size) {
      return Values(values.begin() + int64_t(index * size), values.begin() + int64_t((index + 1) * size));
    };
    Values all;
    for (size_t i = 0; i < count; ++i) {
      const Values c = one.reference({part(in[0], i, size_a), part(in[1], shares_b ? 0 : i, size_b)});
      all.insert(all.end(), c.begin(), c.end());
    }
    return all;
  };
  row.terms = std::max({m * (shares_b ? int64_t(count) : 1), n, k});
  row.elements = double(count) * double(m * k + m * n) + double(k * n) * (shares_b ? 1 : double(count));
  row.flops = one.flops * double(count);
  return row;
}

OpCase linear_row(int64_t rows, int64_t inputs, int64_t outputs, bool bias, bool big = false) {
  OpCase row{.name = format_message("linear {}x{} to {}{}", rows, inputs, outputs, bias ? " bias" : ""),
             .inputs = {{{rows, inputs}}, {{outputs, inputs}}},
             .call = [=](const auto& in) { return linear(in[0], in[1], bias ? in[2] : Tensor()); },
             .reference = [=](const Inputs& in) { return linear_reference(in, rows, inputs, outputs, bias); },
             .terms = std::max({rows, inputs, outputs}),
             .elements = double(rows * inputs + outputs * inputs + rows * outputs),
             .flops = 2.0 * double(rows * inputs * outputs),
             .big = big};
  if (bias) row.inputs.push_back({{outputs}});
  return row;
}

/// Targets of which about one in `period` is ignored.
Fill targets_below(int64_t vocab, int64_t ignore_index, size_t period = 4) {
  return [=](Values& values, Generator& generator) {
    integers(0, vocab)(values, generator);
    for (size_t i = period / 2; i < values.size(); i += period) values[i] = double(ignore_index);
  };
}

OpCase cross_entropy_row(int64_t rows, int64_t vocab, int64_t ignore_index, double smoothing, bool mean = false,
                         bool big = false) {
  return {.name = format_message("cross_entropy {}x{} ignore {} smoothing {}{}", rows, vocab, ignore_index, smoothing,
                                 mean ? " mean" : ""),
          .inputs = {{{rows, vocab}, normal(2)}, {{rows}, targets_below(vocab, ignore_index), DType::i32, false}},
          .call =
              [=](const auto& in) {
                const TokenLoss loss = cross_entropy(in[0], in[1], ignore_index, smoothing);
                return mean ? loss.mean() : loss.sum;
              },
          .reference =
              [=](const Inputs& in) {
                Values loss = cross_entropy_reference(in[0], in[1], vocab, ignore_index, smoothing);
                const auto count =
                    std::ranges::count_if(in[1], [&](double target) { return target != double(ignore_index); });
                if (mean) loss[0] = count ? loss[0] / double(count) : 0;
                return loss;
              },
          .terms = rows + vocab,
          .elements = double(rows * vocab),
          .flops = 4.0 * double(rows * vocab),
          .big = big};
}

/// Logits that lie otherwise than their gradient does, which begins at a multiple of 256 bytes.
OpCase cross_entropy_of_slice_row(int64_t rows, int64_t vocab) {
  OpCase row = cross_entropy_row(rows, vocab, -100, 0);
  row.name += " of a slice";
  row.inputs[0].shape = {rows + 1, vocab};
  row.call = [=](const auto& in) { return cross_entropy(slice(in[0], 1, rows + 1), in[1]).sum; };
  row.reference = [=](const Inputs& in) {
    return cross_entropy_reference(Values(in[0].begin() + vocab, in[0].end()), in[1], vocab, -100, 0);
  };
  return row;
}

/// Both results, end to end.
OpCase cross_projection_row(int64_t rows, int64_t memory_rows, int64_t inputs, int64_t size, bool bias,
                            bool big = false) {
  OpCase row{
      .name = format_message("cross_projection {} and {} rows of {} to {}{}", rows, memory_rows, inputs, size,
                             bias ? " bias" : ""),
      .inputs = {{{rows, inputs}}, {{memory_rows, inputs}}, {{3 * size, inputs}}},
      .call =
          [=](const auto& in) {
            const auto y = cross_projection(in[0], in[1], in[2], bias ? in[3] : Tensor());
            return concat({y.queries.reshape({rows * size}), y.keys_values.reshape({2 * memory_rows * size})}, 0);
          },
      .reference = nullptr,
      .terms = std::max({rows, memory_rows, inputs, 3 * size}),
      .elements = double((rows + memory_rows) * inputs + 3 * size * inputs + (rows + 2 * memory_rows) * size),
      .flops = 2.0 * double((rows + 2 * memory_rows) * inputs * size),
      .big = big};
  row.reference = [=](const Inputs& in) {
    const auto part = [&](const Values& x, int64_t x_rows, int64_t first, int64_t columns) {
      const auto weight = in[2].begin() + first * inputs;
      Inputs of_part{x, Values(weight, weight + columns * inputs)};
      if (bias) of_part.emplace_back(in[3].begin() + first, in[3].begin() + first + columns);
      return linear_reference(of_part, x_rows, inputs, columns, bias);
    };
    Values y = part(in[0], rows, 0, size);
    const Values keys_values = part(in[1], memory_rows, size, 2 * size);
    y.insert(y.end(), keys_values.begin(), keys_values.end());
    return y;
  };
  if (bias) row.inputs.push_back({{3 * size}});
  return row;
}

OpCase linear_cross_entropy_row(int64_t rows, int64_t size, int64_t vocab, bool bias, double smoothing,
                                int64_t chunk_elements, bool big = false) {
  OpCase row{.name = format_message("linear_cross_entropy {}x{} to {}{} smoothing {} chunk {}", rows, size, vocab,
                                    bias ? " bias" : "", smoothing, chunk_elements),
             .inputs = {{{rows, size}},
                        {{vocab, size}, normal(1 / std::sqrt(double(size)))},
                        {{rows}, targets_below(vocab, -100), DType::i32, false}},
             .call =
                 [=](const auto& in) {
                   return linear_cross_entropy(in[0], in[1], bias ? in[3] : Tensor(), in[2], -100, smoothing,
                                               chunk_elements)
                       .sum;
                 },
             .reference =
                 [=](const Inputs& in) {
                   const Inputs product{in[0], in[1], bias ? in[3] : Values()};
                   return cross_entropy_reference(linear_reference(product, rows, size, vocab, bias), in[2], vocab,
                                                  -100, smoothing);
                 },
             .terms = rows + size + vocab,
             .elements = double(rows * size + vocab * size),
             .flops = 2.0 * double(rows * size * vocab),
             .big = big};
  if (bias) row.inputs.push_back({{vocab}});
  return row;
}

std::vector<OpCase> make_rows() {
  std::vector<OpCase> rows;
  // matmul: every pair of transpositions, beside and within the blocks that threads share; empty and zero-length sums
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      for (const auto& [m, n, k] :
           {std::tuple<int64_t, int64_t, int64_t>{3, 5, 7}, {31, 33, 127}, {1, 1, 1}, {2, 0, 3}, {0, 4, 3}, {3, 4, 0}})
        rows.push_back(matmul_row(m, n, k, {ta, tb}));
      rows.push_back(matmul_row(129, 67, 65, {ta, tb}, true));
      rows.push_back(matmul_row(33, 1031, 31, {ta, tb}, true));
      rows.push_back(matmul_row(75, 83, 517, {ta, tb}, true));   // the CPU sums in stretches of 256
      rows.push_back(matmul_row(66, 66, 2048, {ta, tb}, true));  // and copies rows that lie 8192 bytes apart
    }
  rows.push_back(matmul_row(512, 256, 1000, {}, true));
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const bool one_b : {false, true}) {
        rows.push_back(matmul_batch_row({3}, 3, 5, 7, {ta, tb}, one_b));
        rows.push_back(matmul_batch_row({2, 1, 3}, 17, 33, 31, {ta, tb}, one_b));
        rows.push_back(matmul_batch_row({2, 0}, 4, 3, 2, {ta, tb}, one_b));
        rows.push_back(matmul_batch_row({2}, 3, 4, 0, {ta, tb}, one_b));
        rows.push_back(matmul_batch_row({5}, 65, 127, 129, {ta, tb}, one_b, true));
      }
  rows.push_back(matmul_batch_row({256}, 32, 32, 64, {false, true}, false, true));  // scores of short sequences
  // linear
  for (const auto& [r, i, o] :
       {std::tuple<int64_t, int64_t, int64_t>{3, 33, 5}, {127, 1, 31}, {1, 1, 1}, {0, 4, 3}, {5, 0, 3}, {2, 17, 129}})
    for (const bool bias : {false, true}) rows.push_back(linear_row(r, i, o, bias, r * i * o > 4000));
  rows.push_back(linear_row(300, 4, 129, true));  // CUDA: more sums of rows than warps add up at once
  rows.push_back(linear_row(1000, 128, 512, true, true));
  rows.push_back(linear_row(45, 301, 75, true, true));
  for (const bool bias : {false, true}) {
    rows.push_back(cross_projection_row(5, 9, 7, 3, bias));
    rows.push_back(cross_projection_row(2, 0, 3, 1, bias));
    rows.push_back(cross_projection_row(33, 65, 17, 16, bias, true));
  }
  // cross_entropy
  for (const auto& [r, v] :
       {std::pair<int64_t, int64_t>{5, 7}, {33, 31}, {1, 1}, {3, 2}, {0, 4}, {2, 127}, {3, 8003}}) {
    rows.push_back(cross_entropy_row(r, v, -100, 0, false, r * v > 4000));
    rows.push_back(cross_entropy_row(r, v, v > 1 ? 0 : -100, 0.1, true, r * v > 4000));
  }
  for (const int64_t columns : {33, 129, 8003}) rows.push_back(cross_entropy_row(2, columns, 0, 0.1));
  // Rows that more and more threads hold, up to those that none can.
  for (const auto& [r, v] : {std::pair<int64_t, int64_t>{13, 8203}, {8, 16411}, {2, 33001}, {1, 70001}})
    rows.push_back(cross_entropy_row(r, v, -100, 0.1));
  rows.push_back(cross_entropy_of_slice_row(3, 127));
  rows.push_back(cross_entropy_row(1100, 5, -100, 0, true));  // more rows than the block that sums them has threads
  rows.push_back(cross_entropy_row(1200, 42, 0, 0.1, true, true));
  rows.push_back(cross_entropy_row(256, 8003, -100, 0, false, true));
  // linear_cross_entropy: one chunk, several, a row a chunk
  for (const auto& [r, d, v] :
       {std::tuple<int64_t, int64_t, int64_t>{7, 5, 9}, {1, 1, 1}, {0, 3, 4}, {33, 3, 2}, {5, 33, 127}})
    for (const int64_t chunk : {int64_t(1), 3 * v, int64_t(1) << 22})
      rows.push_back(linear_cross_entropy_row(r, d, v, chunk != 1, chunk == 1 ? 0.1 : 0, chunk, r * d * v > 4000));
  rows.push_back(linear_cross_entropy_row(5, 3, 8003, true, 0.1, 2 * 8003));
  rows.push_back(linear_cross_entropy_row(13, 3, 8203, false, 0, 1 << 22));
  rows.push_back(linear_cross_entropy_row(1200, 128, 42, false, 0.1, 1 << 22, true));
  rows.push_back(linear_cross_entropy_row(256, 64, 2003, true, 0, 1 << 16, true));
  add_norm_cases(rows);
  add_fused_cases(rows);
  add_rowwise_cases(rows);
  add_binary_cases(rows);
  add_move_cases(rows);
  add_dim_cases(rows);
  add_loss_cases(rows);
  add_attention_cases(rows);
  return rows;
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> rows = make_rows();
  return rows;
}

// ---- Inputs -------------------------------------------------------------------------------------------------------------

Fill normal(double stddev) {
  return [stddev](Values& values, Generator& generator) {
    std::normal_distribution<double> draw(0, stddev);
    for (double& value : values) value = draw(generator);
  };
}

Fill away_from_zero() {
  return [](Values& values, Generator& generator) {
    normal()(values, generator);
    for (double& value : values) value += value < 0 ? -0.05 : 0.05;
  };
}

Fill integers(int64_t low, int64_t high) {
  return [=](Values& values, Generator& generator) {
    std::uniform_int_distribution<int64_t> draw(low, high - 1);
    for (double& value : values) value = double(draw(generator));
  };
}

Fill exactly(Values wanted) {
  return [wanted = std::move(wanted)](Values& values, Generator&) { values = wanted; };
}

std::vector<Tensor> make_inputs(const OpCase& row, DType dtype, Device device, uint64_t seed) {
  std::vector<Tensor> inputs;
  Generator generator(seed);
  for (const Input& input : row.inputs) {
    Values values(static_cast<size_t>(input.shape.numel()));
    input.fill(values, generator);
    const Tensor host = Tensor::from(std::span<const double>(values), input.shape);
    inputs.push_back(host.cast(is_float(input.dtype) ? dtype : input.dtype).to(device));
    if (is_float(input.dtype)) inputs.back().set_requires_grad(input.differentiable);
  }
  return inputs;
}

Values values_of(const Tensor& tensor) { return tensor.detach().cast(DType::f64).to_vector<double>(); }

}  // namespace libtrain::testing
