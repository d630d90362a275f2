/// Rows of the table for operations that move elements (permute, narrow, concat, index_select) or add them up (sum, mean).
#pragma once
#include "references.h"

namespace libtrain::testing {

/// Calls f(index of each dimension, position among all elements) for every element of the shape, in order.
template <class F> void for_each_index(const Shape& shape, const F& f) {
  std::vector<int64_t> index(size_t(shape.rank()), 0);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    int64_t left = i;
    for (int d = shape.rank() - 1; d >= 0; left /= shape[d--]) index[size_t(d)] = left % shape[d];
    f(index, size_t(i));
  }
}

inline size_t position_of(const Shape& shape, const std::vector<int64_t>& index) {
  int64_t at = 0;
  for (int d = 0; d < shape.rank(); ++d) at = at * shape[d] + index[size_t(d)];
  return size_t(at);
}

inline OpCase permute_row(const Shape& shape, const std::vector<int>& order, bool big = false) {
  std::string name = "permute " + shape.str() + " to";
  for (const int dim : order) name += " " + std::to_string(dim);
  std::vector<int64_t> sizes;
  for (const int dim : order) sizes.push_back(shape[dim]);
  const Shape result{std::span<const int64_t>(sizes)};
  return {.name = name,
          .inputs = {{shape}},
          .call = [=](const auto& in) { return permute(in[0], order); },
          .reference =
              [=](const Inputs& in) {
                Values y(in[0].size());
                for_each_index(result, [&](const std::vector<int64_t>& index, size_t i) {
                  std::vector<int64_t> from(index.size());
                  for (size_t d = 0; d < order.size(); ++d) from[size_t(order[d])] = index[d];
                  y[i] = in[0][position_of(shape, from)];
                });
                return y;
              },
          .elements = 2.0 * double(shape.numel()),
          .big = big};
}

inline OpCase narrow_row(const Shape& shape, int dim, int64_t start, int64_t length, bool big = false) {
  std::vector<int64_t> sizes(shape.dims().begin(), shape.dims().end());
  sizes[size_t(dim)] = length;
  const Shape result{std::span<const int64_t>(sizes)};
  return {.name = format_message("narrow {} dim {} from {}, {} elements", shape.str(), dim, start, length),
          .inputs = {{shape}},
          .call = [=](const auto& in) { return narrow(in[0], dim, start, length); },
          .reference =
              [=](const Inputs& in) {
                Values y(size_t(result.numel()));
                for_each_index(result, [&](std::vector<int64_t> index, size_t i) {
                  index[size_t(dim)] += start;
                  y[i] = in[0][position_of(shape, index)];
                });
                return y;
              },
          .elements = 2.0 * double(result.numel()),
          .big = big};
}

/// Three tensors of different sizes along `dim`, the first of them again at the end.
inline OpCase concat_row(const Shape& shape, int dim, const std::array<int64_t, 3>& lengths, bool big = false) {
  const auto with = [=](int64_t size) {
    std::vector<int64_t> sizes(shape.dims().begin(), shape.dims().end());
    sizes[size_t(dim)] = size;
    return Shape(std::span<const int64_t>(sizes));
  };
  const Shape result = with(2 * lengths[0] + lengths[1] + lengths[2]);
  OpCase row{
      .name = format_message("concat {} dim {} of {}, {}, {}", shape.str(), dim, lengths[0], lengths[1], lengths[2]),
      .inputs = {},
      .call =
          [=](const auto& in) {
            return concat({in[0], in[1], in[2], in[0]}, dim);
          },
      .reference =
          [=](const Inputs& in) {
            Values y(size_t(result.numel()));
            for_each_index(result, [&](std::vector<int64_t> index, size_t i) {
              size_t part = 0;
              for (; index[size_t(dim)] >= lengths[part % 3]; ++part) index[size_t(dim)] -= lengths[part % 3];
              y[i] = in[part % 3][position_of(with(lengths[part % 3]), index)];
            });
            return y;
          },
      .elements = 2.0 * double(result.numel()),
      .big = big};
  for (const int64_t length : lengths) row.inputs.push_back({with(length)});
  return row;
}

inline OpCase index_select_row(const Shape& shape, int64_t picks, bool big = false) {
  const int64_t columns = shape[0] ? shape.numel() / shape[0] : 0;
  return {.name = format_message("index_select {} of {}", picks, shape.str()),
          .inputs = {{shape}, {{picks}, integers(0, shape[0]), DType::i32}},
          .call = [](const auto& in) { return index_select(in[0], in[1]); },
          .reference =
              [=](const Inputs& in) {
                Values y;
                for (const double row : in[1])
                  for (int64_t c = 0; c < columns; ++c) y.push_back(in[0][size_t(int64_t(row) * columns + c)]);
                return y;
              },
          .terms = picks,
          .elements = 2.0 * double(picks * columns),
          .big = big};
}

/// Sum or mean along the last dimension, or over all elements.
inline OpCase sum_row(const Shape& shape, bool mean_of, bool all, bool big = false) {
  const int64_t columns = all ? shape.numel() : shape[-1], rows = all ? 1 : shape.rows();
  return {.name = format_message("{} {} over {}", mean_of ? "mean" : "sum", shape.str(), all ? "all" : "rows"),
          .inputs = {{shape}},
          .call =
              [=](const auto& in) {
                if (all) return mean_of ? mean(in[0]) : sum(in[0]);
                return mean_of ? mean(in[0], -1) : sum(in[0], shape.rank() - 1);
              },
          .reference =
              [=](const Inputs& in) {
                Values y(static_cast<size_t>(rows));
                for (size_t i = 0; i < in[0].size(); ++i)
                  y[i / size_t(columns)] += mean_of ? in[0][i] / double(columns) : in[0][i];
                return y;
              },
          .terms = columns,
          .elements = double(shape.numel()),
          .flops = double(shape.numel()),
          .big = big};
}

/// Sum or mean along any dimension.
inline OpCase dim_sum_row(const Shape& shape, int dim, bool mean_of, bool big = false) {
  const int at = dim < 0 ? dim + shape.rank() : dim;
  return {.name = format_message("{} {} along {}", mean_of ? "mean" : "sum", shape.str(), dim),
          .inputs = {{shape}},
          .call = [=](const auto& in) { return mean_of ? mean(in[0], dim) : sum(in[0], dim); },
          .reference =
              [=](const Inputs& in) {
                int64_t inner = 1;
                for (int d = at + 1; d < shape.rank(); ++d) inner *= shape[d];
                Values y(size_t(shape[at] ? shape.numel() / shape[at] : 0));
                for (size_t i = 0; i < in[0].size(); ++i)
                  y[i / size_t(inner * shape[at]) * size_t(inner) + i % size_t(inner)] +=
                      mean_of ? in[0][i] / double(shape[at]) : in[0][i];
                return y;
              },
          .terms = shape[at],
          .elements = double(shape.numel()),
          .flops = double(shape.numel()),
          .big = big};
}

inline void add_move_cases(std::vector<OpCase>& rows) {
  // permute: nothing moves, runs stay whole (packs and not), the last dimension turns (within, at and across tiles)
  for (const auto& [shape, order] : {std::pair<Shape, std::vector<int>>{{3, 5}, {0, 1}},
                                     {{3, 4, 8}, {1, 0, 2}},
                                     {{3, 4, 5}, {1, 0, 2}},
                                     {{2, 3, 4, 8}, {2, 1, 0, 3}},
                                     {{5, 7}, {1, 0}},
                                     {{33, 65}, {1, 0}},
                                     {{3, 33, 31}, {0, 2, 1}},
                                     {{2, 3, 4, 5}, {3, 1, 2, 0}},
                                     {{2, 3, 34, 5}, {3, 0, 2, 1}},
                                     {{4, 1, 6, 2}, {2, 3, 1, 0}},
                                     {{0, 3}, {1, 0}},
                                     {{127}, {0}},
                                     {{}, {}}})
    rows.push_back(permute_row(shape, order));
  rows.push_back(permute_row({16, 64, 8, 64}, {0, 2, 1, 3}, true));
  rows.push_back(permute_row({1024, 512}, {1, 0}, true));
  for (const auto& [shape, dim, start, length] : {std::tuple<Shape, int, int64_t, int64_t>{{3, 7}, 1, 2, 4},
                                                  {{5, 9}, 1, 8, 1},
                                                  {{3, 4, 8}, 1, 1, 2},
                                                  {{2, 3, 32}, 2, 8, 16},
                                                  {{2, 3, 32}, 2, 3, 16},
                                                  {{2, 3, 4, 3}, 2, 1, 1},
                                                  {{6, 3}, 0, 2, 3},
                                                  {{3, 4}, 1, 2, 0},
                                                  {{0, 4}, 1, 1, 2}})
    rows.push_back(narrow_row(shape, dim, start, length));
  rows.push_back(narrow_row({1024, 1536}, 1, 512, 512, true));
  rows.push_back(concat_row({3, 7}, 1, {2, 1, 5}));
  rows.push_back(concat_row({3, 7}, 0, {2, 0, 5}));
  rows.push_back(concat_row({2, 1, 8}, 1, {3, 2, 1}));
  rows.push_back(concat_row({31}, 0, {1, 33, 127}));
  rows.push_back(concat_row({0, 4}, 1, {1, 2, 3}));
  rows.push_back(concat_row({1024, 1}, 1, {256, 512, 128}, true));
  for (const auto& [shape, picks] :
       {std::pair<Shape, int64_t>{{5, 3}, 7}, {{3, 2, 8}, 40}, {{4}, 3}, {{1, 33}, 129}, {{3, 4}, 0}})
    rows.push_back(index_select_row(shape, picks));
  rows.push_back(index_select_row({1024, 512}, 2048, true));
  for (const bool mean_of : {false, true}) {
    for (const Shape& shape : {Shape{3, 33}, Shape{2, 3, 8}, Shape{127, 1}, Shape{1, 127}, Shape{3, 1032}, Shape{0, 8}})
      for (const bool all : {false, true})
        if (!(mean_of && shape.numel() == 0)) rows.push_back(sum_row(shape, mean_of, all));
    rows.push_back(sum_row({3, 8003}, mean_of, false));
    rows.push_back(sum_row({2, 3, 4100}, mean_of, true));
  }
  rows.push_back(sum_row({}, false, true));
  rows.push_back(sum_row({5, 0}, false, false));
  rows.push_back(sum_row({1024, 512}, true, false, true));
  rows.push_back(sum_row({1200, 1000}, false, true, true));
  // Along other dimensions: narrow and wide, with and without packs, in one piece and in many.
  for (const auto& [shape, dim] : {std::pair<Shape, int>{{3, 33}, 0},
                                   {{5, 3, 7}, 1},
                                   {{2, 31, 8}, -2},
                                   {{127, 2, 3}, 0},
                                   {{300, 40}, 0},
                                   {{2, 3, 5, 4, 8}, 2},
                                   {{1, 4}, 0},
                                   {{3, 0}, 0},
                                   {{700, 1, 260}, 0}})
    for (const bool mean_of : {false, true}) rows.push_back(dim_sum_row(shape, dim, mean_of, shape.numel() > 50000));
  rows.push_back(dim_sum_row({16, 64, 512}, 1, true, true));
  rows.push_back(dim_sum_row({8003, 3}, 0, false, true));
}

}  // namespace libtrain::testing
