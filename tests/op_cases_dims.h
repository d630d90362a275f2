/// Rows of the table for operations along a dimension: softmax, log_softmax, max.
#pragma once
#include "op_cases_moves.h"

namespace libtrain::testing {

/// Calls f(first element, stride, count) for each line of the tensor along a dimension.
template <class F> void for_each_line(const Shape& shape, int dim, const F& f) {
  const int at = dim < 0 ? dim + shape.rank() : dim;
  int64_t inner = 1;
  for (int d = at + 1; d < shape.rank(); ++d) inner *= shape[d];
  for (int64_t i = 0; i < shape.numel(); ++i)
    if (i / inner % shape[at] == 0) f(size_t(i), size_t(inner), size_t(shape[at]));
}

inline OpCase softmax_row(const Shape& shape, int dim, bool log, bool big = false) {
  return {.name = format_message("{} {} along {}", log ? "log_softmax" : "softmax", shape.str(), dim),
          .inputs = {{shape, normal(3)}},
          .call = [=](const auto& in) { return log ? log_softmax(in[0], dim) : softmax(in[0], dim); },
          .reference =
              [=](const Inputs& in) {
                Values y(in[0].size());
                for_each_line(shape, dim, [&](size_t first, size_t stride, size_t count) {
                  double sum = 0;
                  for (size_t c = 0; c < count; ++c) sum += std::exp(in[0][first + c * stride]);
                  for (size_t c = 0; c < count; ++c) {
                    const double share = std::exp(in[0][first + c * stride]) / sum;
                    y[first + c * stride] = log ? std::log(share) : share;
                  }
                });
                return y;
              },
          .terms = shape[dim],
          .elements = 2.0 * double(shape.numel()),
          .flops = 4.0 * double(shape.numel()),
          .big = big};
}

inline OpCase max_row(const Shape& shape, int dim, bool big = false) {
  return {.name = format_message("max {} along {}", shape.str(), dim),
          .inputs = {{shape}},
          .call = [=](const auto& in) { return max(in[0], dim).values; },
          .reference =
              [=](const Inputs& in) {
                Values y;
                for_each_line(shape, dim, [&](size_t first, size_t stride, size_t count) {
                  double most = in[0][first];
                  for (size_t c = 1; c < count; ++c) most = std::max(most, in[0][first + c * stride]);
                  y.push_back(most);
                });
                return y;
              },
          .elements = double(shape.numel()),
          .flops = double(shape.numel()),
          .big = big};
}

inline void add_dim_cases(std::vector<OpCase>& rows) {
  for (const bool log : {false, true}) {
    // Rows that a warp holds, a block holds, a warp reads again, a block reads again; and other dimensions.
    for (const auto& [shape, dim] : {std::pair<Shape, int>{{3, 64}, -1},
                                     {{20, 128}, 1},
                                     {{2, 1032}, -1},
                                     {{3, 33}, -1},
                                     {{127, 31}, 1},
                                     {{1, 1}, 0},
                                     {{0, 5}, -1},
                                     {{3, 0}, -1},
                                     {{2, 1025}, -1},
                                     {{2, 8003}, -1},
                                     {{5, 7}, 0},
                                     {{2, 3, 2, 5, 3}, 2},
                                     {{4, 3, 2}, -2}})
      rows.push_back(softmax_row(shape, dim, log));
    rows.push_back(softmax_row({4096, 512}, -1, log, true));
    rows.push_back(softmax_row({64, 8192}, -1, log, true));
    rows.push_back(softmax_row({16, 64, 512}, 1, log, true));
  }
  // Rows that a warp and a block owns, with and without packs; other dimensions.
  for (const auto& [shape, dim] : {std::pair<Shape, int>{{3, 33}, -1},
                                   {{127, 8}, 1},
                                   {{2, 1032}, 1},
                                   {{2, 1031}, -1},
                                   {{40, 1032}, -1},  // more than a small device's grid takes at once
                                   {{1}, 0},
                                   {{0, 3}, -1},
                                   {{3, 0}, 0},
                                   {{5, 7}, 0},
                                   {{2, 3, 4, 5, 3}, -3}})
    rows.push_back(max_row(shape, dim));
  rows.push_back(max_row({3, 8003}, -1, true));
  rows.push_back(max_row({1024, 512}, -1, true));
  rows.push_back(max_row({16, 64, 512}, 1, true));
}

}  // namespace libtrain::testing
