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
  bool leads;    // first of a sequence's heads, all of which the thread works through

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

/// Reads `count` rows of all heads, an element of each line, where the thread goes on to work through all heads: row after row is what the
/// processor sees coming from memory, and a head of each row, as load_rows() and store_rows() go, is not.
template <class T> void bring_rows(const Unit<T>& u, PackedRows<const T> rows, int64_t first, int64_t count) {
  if (!u.leads) return;
  for (int64_t row = first; row < first + count; ++row)
    for (int64_t c = 0; c < u.a.heads * u.a.head_dim; c += kLine<T>)
      static_cast<void>(*reinterpret_cast<const volatile char*>(rows.data + row * rows.stride + c));
}

/// Keys, values and queries of all heads, and the output or its gradient, a row for each query.
template <class T> void bring_operands(const Unit<T>& u, PackedRows<const T> out) {
  bring_rows(u, u.a.k, u.first_key(), u.keys());
  bring_rows(u, u.a.v, u.first_key(), u.keys());
  bring_rows(u, u.a.q, u.first_query(), u.queries());
  bring_rows(u, out, u.first_query(), u.queries());
}

/// Rows of a gradient laid out as `like`, which store_rows() will write.
template <class T>
void bring_rows(const Unit<T>& u, Sink<T> sink, PackedRows<const T> like, int64_t first, int64_t count) {
  if (sink) bring_rows(u, PackedRows<const T>{sink.data, like.stride}, first, count);
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

/// How many units a thread takes at a time: all heads of up to four sequences that lie side by side, where that leaves each thread some
/// eight turns, else one.
template <class T> int64_t units_at_a_time(const Attention<T>& a) {
  const int64_t sequences = (a.query_ends.dims[0] - 1) / (8 * omp_get_max_threads());
  return sequences == 0 ? 1 : (sequences < 4 ? sequences : 4) * a.heads;
}

/// Calls work(unit, scratch) for every head of every sequence. Each thread that takes part has scratch of its own;
/// lengths differ, so the next free thread takes the next units.
template <class T, class F> void for_units(const Attention<T>& a, const F& work) {
  const int64_t units = (a.query_ends.dims[0] - 1) * a.heads, slots = attention_slots(a), taken = units_at_a_time(a);
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
        work(Unit<T>{a, unit / a.heads, unit % a.heads, key, taken >= a.heads && unit % a.heads == 0},
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
