/// How attention shares out its work on the CPU: one head of one sequence is a unit, and a unit's queries are gone through in blocks.
#pragma once
#include <omp.h>

#include "kernels/attention.h"
#include "kernels/cpu/tile_product.h"

namespace libtrain::kernels {
namespace {

/// One head of one sequence.
template <class T> struct Unit {
  const Attention<T>& a;
  int64_t sequence, head;
  uint64_t key;  // of the random bits

  int64_t first_query() const { return a.query_ends.data[sequence]; }
  int64_t first_key() const { return a.key_ends.data[sequence]; }
  int64_t queries() const { return a.query_ends.data[sequence + 1] - first_query(); }
  int64_t keys() const { return a.key_ends.data[sequence + 1] - first_key(); }
  int64_t width() const { return attention_padded(a.head_dim); }
  accum_t<T>* lse() const { return a.lse.data + head * a.query_rows + first_query(); }
  /// Where row `row` of a packed matrix has this head.
  template <class E> E* at(PackedRows<E> rows, int64_t row) const {
    return rows.data + row * rows.stride + head * a.head_dim;
  }
};

/// A block of a unit's queries.
struct Block {
  int64_t first, count;  // within the sequence
  int64_t lanes;         // count rounded up
  int64_t keys;          // that any of the queries sees
  bool causal;

  /// Keys that the query of this lane sees.
  int32_t visible(int64_t lane) const { return int32_t(causal && first + lane + 1 < keys ? first + lane + 1 : keys); }
};

/// The block of queries that begins with `first`. Its keys are all there are or whole tiles, so that no tile holds keys of
/// which this block has no probabilities.
template <class T> Block block_at(const Unit<T>& u, int64_t first) {
  static_assert(kAttentionBlock % kTileRows == 0);
  const int64_t end = first + kAttentionBlock, count = end < u.queries() ? kAttentionBlock : u.queries() - first;
  return {first, count, attention_padded(count), u.a.causal && end < u.keys() ? end : u.keys(), u.a.causal};
}

/// Hands out pieces of a unit's scratch.
template <class A> struct Scratch {
  A* next;
  A* take(int64_t elements) {
    A* piece = next;
    next += elements;
    return piece;
  }
};

/// Asks for rows of a head, a block of them at most: they lie too far apart for the processor to see them coming. To be called where
/// there is time for them to come, a matrix at a time: what is asked for at once waits in line, and the next loads behind it.
template <class E> void expect_rows(const E* head, int64_t stride, int64_t count, int64_t head_dim) {
  for (int64_t i = 0; i < count && i < kAttentionBlock; ++i, head += stride)
    for (int64_t c = 0; c < head_dim; c += kLine<E>) __builtin_prefetch(head + c);
}

/// The rows behind these, of the same head in the thread's next sequence, more or less.
template <class T> void expect_next(const Unit<T>& u, PackedRows<const T> rows, int64_t first, int64_t count) {
  expect_rows(u.at(rows, first + count), rows.stride, count, u.a.head_dim);
}

/// The rows of a gradient laid out as `like` that store_rows() will write.
template <class T>
void expect_stored(const Unit<T>& u, Sink<T> sink, PackedRows<const T> like, int64_t first, int64_t count) {
  if (sink) expect_rows(u.at(PackedRows<T>{sink.data, like.stride}, first), like.stride, count, u.a.head_dim);
}

/// Copies `count` rows of a head to [padded, width], times `factor`; padding is zero.
template <class T, class A> void load_rows(const Unit<T>& u, PackedRows<const T> from, int64_t first, int64_t count,
                                           int64_t padded, A factor, A* to) {
  const int64_t width = u.width(), head_dim = u.a.head_dim;
  for (int64_t i = 0; i < count; ++i) {
    const T* x = u.at(from, first + i);
    A* row = to + i * width;
#pragma omp simd
    for (int64_t c = 0; c < head_dim; ++c) row[c] = A(x[c]) * factor;
    for (int64_t c = head_dim; c < width; ++c) row[c] = 0;
  }
  for (int64_t at = count * width; at < padded * width; ++at) to[at] = 0;
}

/// Writes `count` rows [., width] of scratch into a gradient that is laid out as `like`.
template <class T, class A> void store_rows(const Unit<T>& u, Sink<T> sink, PackedRows<const T> like, int64_t first,
                                            int64_t count, A factor, const A* from) {
  if (!sink) return;
  for (int64_t i = 0; i < count; ++i) {
    T* to = u.at(PackedRows<T>{sink.data, like.stride}, first + i);
    const A* row = from + i * u.width();
#pragma omp simd
    for (int64_t c = 0; c < u.a.head_dim; ++c) put(to[c], row[c] * factor, sink.accumulate);
  }
}

/// Calls work(unit, scratch) for every head of every sequence. Each thread that takes part has scratch of its own;
/// lengths differ, so the next free thread takes the next units.
template <class T, class F> void for_units(const Attention<T>& a, const F& work) {
  const int64_t units = (a.query_ends.dims[0] - 1) * a.heads, slots = attention_slots(a);
  const int64_t taken =
      units < 256 ? 1 : 4 * a.heads;  // at a time: sequences that lie side by side, where there are plenty
  const uint64_t key = a.dropout > 0 ? random_key(*a.state) : 0;
  int64_t next = 0;
#pragma omp parallel if (units > 1)
  {
    const int64_t slot = omp_get_thread_num();
    while (slot < slots) {
      int64_t first;
#pragma omp atomic capture
      {
        first = next;
        next += taken;
      }
      if (first >= units) break;
      for (int64_t unit = first; unit < units && unit < first + taken; ++unit)
        work(Unit<T>{a, unit / a.heads, unit % a.heads, key},
             Scratch<accum_t<T>>{a.workspace.data + slot * attention_unit_elements(a)});
    }
  }
}

/// Zeroes rows [first, end) of a packed matrix.
template <class T> void clear_rows(T* data, int64_t stride, int64_t width, int64_t first, int64_t end) {
  for (int64_t row = first; row < end; ++row)
    for (int64_t c = 0; c < width; ++c) data[row * stride + c] = T(0.0f);
}

/// Zeroes the rows of a gradient that belong to no sequence, unless it is added to.
template <class T>
void clear_tail(const Attention<T>& a, Sink<T> sink, PackedRows<const T> like, View<const int32_t> ends, int64_t rows) {
  if (!sink || sink.accumulate) return;
  clear_rows(sink.data, like.stride, a.heads * a.head_dim, ends.data[ends.dims[0] - 1], rows);
}

}  // namespace
}  // namespace libtrain::kernels
