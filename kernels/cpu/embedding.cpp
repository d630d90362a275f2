#include "kernels/embedding.h"

#include "kernels/cpu/dropout_bits.h"

namespace libtrain::kernels {
namespace {

/// y of row r, which is no padding.
template <class T> void row_forward(const Embedding<T>& k, const Dropper<accum_t<T>>& dropper, int64_t r) {
  using A = accum_t<T>;
  const int64_t columns = k.y.dims[1];
  const A scale = A(k.scale);
  const T* entry = k.table.data + k.ids.data[r] * columns;
  const T* position = k.position_table ? k.position_table.data + k.positions.data[r] * columns : nullptr;
  T* y = k.y.data + r * columns;
  dropper.for_chunks_of(r, columns, [&](int64_t first, int64_t count, const uint16_t* bits) {
    if (position)
#pragma omp simd
      for (int64_t c = first; c < first + count; ++c)
        put(y[c], dropper.drop(A(entry[c]) * scale + A(position[c]), bits[c - first]), false);
    else
#pragma omp simd
      for (int64_t c = first; c < first + count; ++c)
        put(y[c], dropper.drop(A(entry[c]) * scale, bits[c - first]), false);
  });
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

/// The rows of dy with one id.
struct Group {
  const int32_t* rows;
  int64_t count;
};

/// Columns summed at a time: as many as stay in registers, or as many as one draw of random bits serves.
template <bool drops> constexpr int64_t kWidth = drops ? kDropoutChunk : 64;

/// `width` columns from `first` on of one row of dtable: the sum over the rows of its group, in order.
template <bool drops, class T, class Out>
LIBTRAIN_INLINE void sum_group(const Embedding<T>& k, const Dropper<accum_t<T>>& dropper, const T* dy, Group group,
                               int64_t first, int64_t width, Sink<Out> out) {
  using A = accum_t<T>;
  const int64_t columns = k.table.dims[1];
  alignas(64) A sum[kWidth<drops>] = {};
  for (int64_t i = 0; i < group.count; ++i) {
    const T* row = dy + group.rows[i] * columns + first;
    if constexpr (drops) {
      uint16_t bits[kDropoutChunk];
      A kept
          [kDropoutChunk];  // rounded before it is summed, as when dropout is an operation of its own: no FMA of the two
      dropout_chunk(dropper.key, dropper.place_of(group.rows[i]), uint32_t(first / kDropoutChunk), bits);
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) kept[c] = dropper.drop(A(row[c]), bits[c]);
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) sum[c] += kept[c];
    } else {
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) sum[c] += A(row[c]);
    }
  }
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) put(out.data[first + c], sum[c] * A(k.scale), out.accumulate);
}

/// One row of dtable. Whole widths are a call of their own, whose constant lets the sums stay in registers.
template <bool drops, class T, class Out> void entry_backward(const Embedding<T>& k, const Dropper<accum_t<T>>& dropper,
                                                              const T* dy, Group group, Sink<Out> out) {
  constexpr int64_t kAtOnce = kWidth<drops>;
  const int64_t columns = k.table.dims[1];
  int64_t c = 0;
  for (; c + kAtOnce <= columns; c += kAtOnce) sum_group<drops>(k, dropper, dy, group, c, kAtOnce, out);
  if (c < columns) sum_group<drops>(k, dropper, dy, group, c, columns - c, out);
}

}  // namespace

template <Isa isa, class T> void embedding_forward(Cpu<isa>, const Embedding<T>& k) {
  const int64_t tokens = k.y.dims[0], columns = k.y.dims[1];
  const Dropper<accum_t<T>> dropper{k.mask};
#pragma omp parallel for schedule(static) if (tokens * columns > kTeamElements)
  for (int64_t r = 0; r < tokens; ++r) {
    if (k.ids.data[r] == k.pad_id)
      for (int64_t c = 0; c < columns; ++c) k.y.data[r * columns + c] = T(0);
    else
      row_forward(k, dropper, r);
  }
}

template <Isa isa, class T, class Out>
void embedding_backward(Cpu<isa>, const Embedding<T>& k, View<const T> dy, const EmbeddingGradient<T, Out>& g) {
  const int64_t vocab = k.table.dims[0], columns = k.table.dims[1];
  int32_t *first = g.workspace.data, *order = first + vocab + 1;
  group_rows(k, first, order);
  const Dropper<accum_t<T>> dropper{k.mask};
  // Dynamic, because common ids stand together; each row of dtable is one sum in a fixed order whoever computes it.
#pragma omp parallel for schedule(dynamic, 16) if ((k.ids.dims[0] + vocab) * columns > kTeamElements)
  for (int64_t id = 0; id < vocab; ++id) {
    const Group group{order + first[id], first[id + 1] - first[id]};
    if (group.count == 0 && g.dtable.accumulate) continue;
    const Sink<Out> out{g.dtable.data + id * columns, g.dtable.accumulate};
    k.mask.state ? entry_backward<true>(k, dropper, dy.data, group, out)
                 : entry_backward<false>(k, dropper, dy.data, group, out);
  }
}

#define INSTANTIATE(T)                                             \
  template void embedding_forward(Cpu<kIsa>, const Embedding<T>&); \
  template void embedding_backward(Cpu<kIsa>, const Embedding<T>&, View<const T>, const EmbeddingGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)
template void embedding_backward(Cpu<kIsa>, const Embedding<bf16>&, View<const bf16>,
                                 const EmbeddingGradient<bf16, bf16>&);

}  // namespace libtrain::kernels
