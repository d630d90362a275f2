#include "kernels/embedding.h"

#include "kernels/cpu/common.h"

namespace libtrain::kernels {
namespace {

/// y of one row that is no padding; `position` is null without a position table.
template <class T> void row_forward(const T* entry, const T* position, accum_t<T> scale, int64_t columns, T* y) {
  using A = accum_t<T>;
  if (position)
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) put(y[c], A(entry[c]) * scale + A(position[c]), false);
  else
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) put(y[c], A(entry[c]) * scale, false);
}

/// Sorts the rows by id, keeping their order: rows of group `id` are order[first[id]] up to order[first[id + 1]].
template <class T> void group_rows(const Embedding<T>& k, int32_t* first, int32_t* order) {
  const int64_t tokens = k.ids.dims[0], vocab = k.table.dims[0];
  for (int64_t id = 0; id <= vocab; ++id) first[id] = 0;
  for (int64_t r = 0; r < tokens; ++r)
    if (k.ids.data[r] != k.pad_id) ++first[k.ids.data[r] + 1];
  for (int64_t id = 0; id < vocab; ++id) first[id + 1] += first[id];
  // Placing the rows moves each group's start to its end, which is the start of the next: undone by shifting back.
  for (int64_t r = 0; r < tokens; ++r)
    if (k.ids.data[r] != k.pad_id) order[first[k.ids.data[r]]++] = int32_t(r);
  for (int64_t id = vocab; id > 0; --id) first[id] = first[id - 1];
  first[0] = 0;
}

constexpr int64_t kWidth = 64;  // columns summed at a time

/// `width` columns of one row of dtable: the sum over the rows of its group, in order.
template <class T, class Out> LIBTRAIN_INLINE void sum_group(const T* dy, int64_t columns, const int32_t* rows,
                                                             int64_t count, int64_t width, accum_t<T> scale,
                                                             Sink<Out> out) {
  using A = accum_t<T>;
  alignas(64) A sum[kWidth] = {};
  for (int64_t i = 0; i < count; ++i) {
    const T* row = dy + rows[i] * columns;
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) sum[c] += A(row[c]);
  }
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) put(out.data[c], sum[c] * scale, out.accumulate);
}

/// One row of dtable. Whole widths are a call of their own, whose constant lets the sums stay in registers.
template <class T, class Out>
void entry_backward(const T* dy, int64_t columns, const int32_t* rows, int64_t count, accum_t<T> scale, Sink<Out> out) {
  const auto part = [&](int64_t c) { return Sink<Out>{out.data + c, out.accumulate}; };
  int64_t c = 0;
  for (; c + kWidth <= columns; c += kWidth) sum_group(dy + c, columns, rows, count, kWidth, scale, part(c));
  if (c < columns) sum_group(dy + c, columns, rows, count, columns - c, scale, part(c));
}

}  // namespace

template <Isa isa, class T> void embedding_forward(Cpu<isa>, const Embedding<T>& k) {
  const auto [tokens, columns, d2, d3] = k.y.dims;
#pragma omp parallel for schedule(static) if (tokens * columns > kTeamElements)
  for (int64_t r = 0; r < tokens; ++r) {
    T* y = k.y.data + r * columns;
    const int64_t id = k.ids.data[r];
    if (id == k.pad_id) {
      for (int64_t c = 0; c < columns; ++c) y[c] = T(0);
      continue;
    }
    const T* position = k.position_table ? k.position_table.data + k.positions.data[r] * columns : nullptr;
    row_forward(k.table.data + id * columns, position, accum_t<T>(k.scale), columns, y);
  }
}

template <Isa isa, class T, class Out>
void embedding_backward(Cpu<isa>, const Embedding<T>& k, View<const T> dy, const EmbeddingGradient<T, Out>& g) {
  const auto [vocab, columns, d2, d3] = k.table.dims;
  int32_t *first = g.workspace.data, *order = first + vocab + 1;
  group_rows(k, first, order);
  // Dynamic, because common ids stand together; each row of dtable is one sum in a fixed order whoever computes it.
#pragma omp parallel for schedule(dynamic, 16) if ((k.ids.dims[0] + vocab) * columns > kTeamElements)
  for (int64_t id = 0; id < vocab; ++id) {
    const int64_t count = first[id + 1] - first[id];
    if (count == 0 && g.dtable.accumulate) continue;
    entry_backward(dy.data, columns, order + first[id], count, accum_t<T>(k.scale),
                   Sink<Out>{g.dtable.data + id * columns, g.dtable.accumulate});
  }
}

#define INSTANTIATE(T)                                             \
  template void embedding_forward(Cpu<kIsa>, const Embedding<T>&); \
  template void embedding_backward(Cpu<kIsa>, const Embedding<T>&, View<const T>, const EmbeddingGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)
template void embedding_backward(Cpu<kIsa>, const Embedding<bf16>&, View<const bf16>,
                                 const EmbeddingGradient<bf16, bf16>&);

}  // namespace libtrain::kernels
