/// Naive forward computations in double, written from the definitions: the truth that the table holds the kernels to.
#pragma once
#include <cmath>

#include "op_cases.h"

namespace libtrain::testing {

/// in: x [rows, columns], weight [columns], bias [columns]
inline Values layer_norm_reference(const Inputs& in, int64_t columns, double epsilon) {
  Values y(in[0].size());
  for (size_t first = 0; first < y.size(); first += size_t(columns)) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < columns; ++c) mean += in[0][first + size_t(c)] / double(columns);
    for (int64_t c = 0; c < columns; ++c) variance += std::pow(in[0][first + size_t(c)] - mean, 2) / double(columns);
    for (int64_t c = 0; c < columns; ++c)
      y[first + size_t(c)] =
          (in[0][first + size_t(c)] - mean) / std::sqrt(variance + epsilon) * in[1][size_t(c)] + in[2][size_t(c)];
  }
  return y;
}

/// in: x [rows, columns], weight [columns]
inline Values rms_norm_reference(const Inputs& in, int64_t columns, double epsilon) {
  Values y(in[0].size());
  for (size_t first = 0; first < y.size(); first += size_t(columns)) {
    double mean_square = 0;
    for (int64_t c = 0; c < columns; ++c) mean_square += std::pow(in[0][first + size_t(c)], 2) / double(columns);
    for (int64_t c = 0; c < columns; ++c)
      y[first + size_t(c)] = in[0][first + size_t(c)] / std::sqrt(mean_square + epsilon) * in[1][size_t(c)];
  }
  return y;
}

/// in: a [m, k] and b [k, n] as they are stored
inline Values matmul_reference(const Inputs& in, int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b) {
  Values c(size_t(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t p = 0; p < k; ++p)
        c[size_t(i * n + j)] +=
            in[0][size_t(transpose_a ? p * m + i : i * k + p)] * in[1][size_t(transpose_b ? j * k + p : p * n + j)];
  return c;
}

/// in: x [rows, inputs], weight [outputs, inputs], optionally bias [outputs]
inline Values linear_reference(const Inputs& in, int64_t rows, int64_t inputs, int64_t outputs, bool bias) {
  Values y = matmul_reference(in, rows, outputs, inputs, false, true);
  for (size_t i = 0; bias && i < y.size(); ++i) y[i] += in[2][i % size_t(outputs)];
  return y;
}

/// Sum over rows of the cross-entropy between the smoothed one-hot distribution of the target and softmax(logits [rows, vocab]).
inline Values cross_entropy_reference(const Values& logits, const Values& targets, int64_t vocab, int64_t ignore_index,
                                      double smoothing) {
  double sum = 0;
  for (size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] == double(ignore_index)) continue;
    double normalizer = 0;
    for (int64_t c = 0; c < vocab; ++c) normalizer += std::exp(logits[row * size_t(vocab) + size_t(c)]);
    for (int64_t c = 0; c < vocab; ++c) {
      const double wanted = (double(c) == targets[row] ? 1 - smoothing : 0) + smoothing / double(vocab);
      if (wanted > 0) sum -= wanted * std::log(std::exp(logits[row * size_t(vocab) + size_t(c)]) / normalizer);
    }
  }
  return {sum};
}

/// in: x [..., columns], then b of the same size or [columns]
inline Values add_reference(const Inputs& in) {
  Values y = in[0];
  for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % in[1].size()];
  return y;
}

/// Element (row, column) of x [rows, columns] is kept when its 16 bits reach p * 65536. places: (sequence, position) of
/// each row.
inline Values dropout_reference(const Values& x, int64_t columns, double p, RandomState state, uint32_t stream,
                                const std::vector<std::pair<uint32_t, uint32_t>>& places) {
  Values y(x.size());
  const double limit = std::round(p * 65536), scale = double(float(65536 / (65536 - limit)));
  for (size_t i = 0; i < x.size(); ++i) {
    const auto [sequence, position] = places[i / size_t(columns)];
    const auto column = uint32_t(i % size_t(columns));
    const auto bits = dropout_bits(random_key(state), {position, sequence, stream}, column / 8)[column % 8];
    if (bits >= limit) y[i] = x[i] * scale;
  }
  return y;
}

/// in: ids, table [vocab, columns], then position_table and positions or neither
inline Values embedding_reference(const Inputs& in, int64_t columns, double scale, int32_t pad_id) {
  Values y;
  for (size_t row = 0; row < in[0].size(); ++row)
    for (int64_t c = 0; c < columns; ++c) {
      const double token = in[1][size_t(in[0][row]) * size_t(columns) + size_t(c)] * scale;
      const double position = in.size() > 2 ? in[2][size_t(in[3][row]) * size_t(columns) + size_t(c)] : 0;
      y.push_back(in[0][row] == pad_id ? 0 : token + position);
    }
  return y;
}

/// in: x [tokens, columns], index [rows]
inline Values unpack_rows_reference(const Inputs& in, int64_t columns) {
  Values y;
  for (const double row : in[1])
    for (int64_t c = 0; c < columns; ++c) y.push_back(row < 0 ? 0 : in[0][size_t(row) * size_t(columns) + size_t(c)]);
  return y;
}

/// Attention of packed sequences; rows behind the last one belong to none.
struct AttentionCase {
  std::vector<int64_t> queries, keys;  // lengths
  int64_t heads, head_dim;
  bool causal;
  float p;
  RandomState state;
  uint32_t stream;
};

/// in: qkv [tokens, 3 width] when `self`, else q [query rows, width] and kv [key rows, 2 width]
inline Values attention_reference(const AttentionCase& c, const Inputs& in, bool self) {
  const int64_t width = c.heads * c.head_dim, q_stride = self ? 3 * width : width,
                kv_stride = self ? 3 * width : 2 * width;
  const Values &q = in[0], &kv = self ? in[0] : in[1];
  const int64_t k_offset = self ? width : 0, v_offset = k_offset + width;
  Values out(q.size() / size_t(q_stride) * size_t(width), 0.0);
  int64_t q0 = 0, k0 = 0;
  for (size_t s = 0; s < c.queries.size(); q0 += c.queries[s], k0 += c.keys[s], ++s)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.queries[s]; ++i) {
        const int64_t visible = c.causal ? i + 1 : c.keys[s];
        Values p(static_cast<size_t>(visible));
        double sum = 0;
        for (int64_t j = 0; j < visible; ++j) {
          double score = 0;
          for (int64_t d = 0; d < c.head_dim; ++d)
            score += q[size_t((q0 + i) * q_stride + h * c.head_dim + d)] *
                     kv[size_t((k0 + j) * kv_stride + k_offset + h * c.head_dim + d)];
          sum += p[size_t(j)] = std::exp(score / std::sqrt(double(c.head_dim)));
        }
        for (int64_t j = 0; j < visible; ++j) {
          double share = p[size_t(j)] / sum;
          if (c.p > 0) {
            const auto bits =
                dropout_bits(random_key(c.state),
                             {uint32_t(i), uint32_t(s), (1u << 31) + c.stream * 1024 + uint32_t(h)}, uint32_t(j / 8));
            share = bits[size_t(j % 8)] >= dropout_threshold(c.p) ? share * dropout_scale(c.p) : 0;
          }
          for (int64_t d = 0; d < c.head_dim; ++d)
            out[size_t((q0 + i) * width + h * c.head_dim + d)] +=
                share * kv[size_t((k0 + j) * kv_stride + v_offset + h * c.head_dim + d)];
        }
      }
  return out;
}

}  // namespace libtrain::testing
