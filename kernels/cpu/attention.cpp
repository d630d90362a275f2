#include "kernels/attention.h"

#include <limits>

#include "kernels/cpu/dropout_bits.h"
#include "kernels/cpu/exp.h"
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
  int64_t padded_keys() const { return attention_padded(keys()); }
  int64_t width() const { return attention_padded(a.head_dim); }
  /// Keys that query i sees.
  int64_t visible(int64_t i) const { return a.causal && i + 1 < keys() ? i + 1 : keys(); }
  accum_t<T>* lse() const { return a.lse.data + head * a.query_rows + first_query(); }
  /// Where row `row` of a packed matrix has this head.
  template <class E> E* at(PackedRows<E> rows, int64_t row) const { return rows.data + row * rows.stride + head * a.head_dim; }
};

/// Hands out pieces of a slot's scratch.
template <class A> struct Scratch {
  A* next;
  A* take(int64_t elements) {
    A* piece = next;
    next += elements;
    return piece;
  }
};

/// Copies `count` rows of a head to [padded count, width], times `factor`; padding is zero.
template <class T, class A>
void load_rows(const Unit<T>& u, PackedRows<const T> from, int64_t first, int64_t count, A factor, A* to) {
  const int64_t width = u.width(), padded = attention_padded(count);
  for (int64_t i = 0; i < padded; ++i) {
    A* row = to + i * width;
    for (int64_t c = 0; c < width; ++c) row[c] = 0;
    if (i >= count) continue;
    const T* x = u.at(from, first + i);
#pragma omp simd
    for (int64_t c = 0; c < u.a.head_dim; ++c) row[c] = A(x[c]) * factor;
  }
}

/// The transpose [width, padded count] of rows [padded count, width].
template <class A> void transpose(const A* rows, int64_t padded, int64_t width, A* to) {
  for (int64_t c = 0; c < width; ++c)
    for (int64_t i = 0; i < padded; ++i) to[c * padded + i] = rows[i * width + c];
}

/// Multiplies row i of P (or of dP) by its dropout mask: 0 or the scale of what is kept.
template <class T, class A> void drop_row(const Unit<T>& u, int64_t i, A* row) {
  const DropoutRow place{uint32_t(i), uint32_t(u.sequence), u.a.stream << 10 | uint32_t(u.head)};
  const int32_t threshold = int32_t(dropout_threshold(u.a.dropout));
  const A scale = A(dropout_scale(u.a.dropout));
  for (int64_t first = 0; first < u.keys(); first += kDropoutChunk) {
    uint16_t bits[kDropoutChunk];
    dropout_chunk(u.key, place, uint32_t(first / kDropoutChunk), bits);
    const int64_t count = u.keys() - first < kDropoutChunk ? u.keys() - first : int64_t(kDropoutChunk);
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) row[first + j] = int32_t(bits[j]) >= threshold ? row[first + j] * scale : A(0);
  }
}

/// Scores of one query → probabilities, zero where it sees nothing; returns the log-sum-exp.
template <class A> A softmax_row(A* row, int64_t visible, int64_t padded) {
  A peak = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : peak)
  for (int64_t j = 0; j < visible; ++j) peak = row[j] > peak ? row[j] : peak;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < visible; ++j) {
    row[j] = vexp(row[j] - peak);
    sum += row[j];
  }
  const A inverse = visible ? 1 / sum : A(0);
#pragma omp simd
  for (int64_t j = 0; j < visible; ++j) row[j] *= inverse;
  for (int64_t j = visible; j < padded; ++j) row[j] = 0;
  return visible ? peak + std::log(sum) : std::numeric_limits<A>::infinity();
}

/// Probabilities again, from scores and their log-sum-exp.
template <class A> void recompute_row(A* row, A lse, int64_t visible, int64_t padded) {
#pragma omp simd
  for (int64_t j = 0; j < visible; ++j) row[j] = vexp(row[j] - lse);
  for (int64_t j = visible; j < padded; ++j) row[j] = 0;
}

/// Rows of a block, padded to whole tiles.
int64_t block_rows(int64_t queries, int64_t first) {
  return queries - first < kAttentionBlock ? queries - first : kAttentionBlock;
}

/// Output and log-sum-exp of one unit.
template <class T> void unit_forward(const Unit<T>& u, Scratch<accum_t<T>> scratch) {
  using A = accum_t<T>;
  const Attention<T>& a = u.a;
  const int64_t padded = u.padded_keys(), width = u.width();
  A *rows = scratch.take(padded * width), *keys = scratch.take(padded * width);
  load_rows(u, a.k, u.first_key(), u.keys(), A(1), rows);
  transpose(rows, padded, width, keys);
  load_rows(u, a.v, u.first_key(), u.keys(), A(1), rows);
  A *q = scratch.take(kAttentionBlock * width), *out = scratch.take(kAttentionBlock * width);
  A* p = scratch.take(kAttentionBlock * padded);
  for (int64_t first = 0; first < u.queries(); first += kAttentionBlock) {
    const int64_t count = block_rows(u.queries(), first), m = attention_padded(count);
    load_rows(u, a.q, u.first_query() + first, count, A(a.scale), q);
    tile_product(m, padded, width, Strided<A>{q, width, 1}, keys, padded, p, padded, false);
    for (int64_t i = 0; i < count; ++i) {
      u.lse()[first + i] = softmax_row(p + i * padded, u.visible(first + i), padded);
      if (a.dropout > 0) drop_row(u, first + i, p + i * padded);
    }
    tile_product(m, width, padded, Strided<A>{p, padded, 1}, rows, width, out, width, false);
    for (int64_t i = 0; i < count; ++i) {
      T* y = u.at(PackedRows<T>{a.out.data, a.heads * a.head_dim}, u.first_query() + first + i);
      for (int64_t c = 0; c < a.head_dim; ++c) y[c] = T(out[i * width + c]);
    }
  }
}

/// Writes `count` rows [., width] of scratch into a gradient that is laid out as `like`.
template <class T, class A>
void store_rows(const Unit<T>& u, Sink<T> sink, PackedRows<const T> like, int64_t first, int64_t count, A factor, const A* from) {
  if (!sink) return;
  for (int64_t i = 0; i < count; ++i) {
    T* to = u.at(PackedRows<T>{sink.data, like.stride}, first + i);
    for (int64_t c = 0; c < u.a.head_dim; ++c) put(to[c], from[i * u.width() + c] * factor, sink.accumulate);
  }
}

/// Scratch of a unit's backward.
template <class A> struct BackwardScratch {
  A *keys, *keys_t, *values_t, *dkeys, *dvalues;  // [padded, width], the _t transposed
  A *q, *dout, *dq;                               // [block, width]
  A *p, *ds, *dropped;                            // [block, padded]
};

/// dS = P * (dropout'(dO V^T) - rowsum(dO * O)) for one query; leaves dropout(P) in `dropped`.
template <class T, class A>
void score_gradient(const Unit<T>& u, int64_t i, const A* p, const A* dout, A* ds, A* dropped, int64_t padded) {
  const T* out = u.at(PackedRows<const T>{u.a.out.data, u.a.heads * u.a.head_dim}, u.first_query() + i);
  A d = 0;
#pragma omp simd reduction(+ : d)
  for (int64_t c = 0; c < u.a.head_dim; ++c) d += dout[c] * A(out[c]);
  for (int64_t j = 0; j < padded; ++j) dropped[j] = p[j];
  if (u.a.dropout > 0) {
    drop_row(u, i, dropped);
    drop_row(u, i, ds);
  }
#pragma omp simd
  for (int64_t j = 0; j < padded; ++j) ds[j] = p[j] * (ds[j] - d);
}

/// One block of queries: its dQ, and its share of dK and dV.
template <class T, class A>
void block_backward(const Unit<T>& u, int64_t first, PackedRows<const T> dout, const AttentionGradients<T>& g, BackwardScratch<A> s) {
  const Attention<T>& a = u.a;
  const int64_t padded = u.padded_keys(), width = u.width();
  const int64_t count = block_rows(u.queries(), first), m = attention_padded(count);
  load_rows(u, a.q, u.first_query() + first, count, A(a.scale), s.q);
  load_rows(u, dout, u.first_query() + first, count, A(1), s.dout);
  tile_product(m, padded, width, Strided<A>{s.q, width, 1}, s.keys_t, padded, s.p, padded, false);
  tile_product(m, padded, width, Strided<A>{s.dout, width, 1}, s.values_t, padded, s.ds, padded, false);
  for (int64_t i = 0; i < m; ++i) {
    A *p = s.p + i * padded, *ds = s.ds + i * padded, *dropped = s.dropped + i * padded;
    recompute_row(p, i < count ? u.lse()[first + i] : A(0), i < count ? u.visible(first + i) : 0, padded);
    if (i < count)
      score_gradient(u, first + i, p, s.dout + i * width, ds, dropped, padded);
    else
      for (int64_t j = 0; j < padded; ++j) ds[j] = dropped[j] = 0;
  }
  tile_product(padded, width, m, Strided<A>{s.dropped, 1, padded}, s.dout, width, s.dvalues, width, true);
  tile_product(padded, width, m, Strided<A>{s.ds, 1, padded}, s.q, width, s.dkeys, width, true);
  tile_product(m, width, padded, Strided<A>{s.ds, padded, 1}, s.keys, width, s.dq, width, false);
  store_rows(u, g.dq, a.q, u.first_query() + first, count, A(a.scale), s.dq);
}

/// Gradients of one unit. The scale of dK is in the scaled queries already.
template <class T>
void unit_backward(const Unit<T>& u, PackedRows<const T> dout, const AttentionGradients<T>& g, Scratch<accum_t<T>> scratch) {
  using A = accum_t<T>;
  const int64_t padded = u.padded_keys(), width = u.width(), size = padded * width;
  BackwardScratch<A> s;
  s.keys = scratch.take(size), s.keys_t = scratch.take(size), s.values_t = scratch.take(size);
  s.dkeys = scratch.take(size), s.dvalues = scratch.take(size);
  s.q = scratch.take(kAttentionBlock * width), s.dout = scratch.take(kAttentionBlock * width);
  s.dq = scratch.take(kAttentionBlock * width);
  s.p = scratch.take(kAttentionBlock * padded), s.ds = scratch.take(kAttentionBlock * padded);
  s.dropped = scratch.take(kAttentionBlock * padded);
  load_rows(u, u.a.v, u.first_key(), u.keys(), A(1), s.keys);
  transpose(s.keys, padded, width, s.values_t);
  load_rows(u, u.a.k, u.first_key(), u.keys(), A(1), s.keys);
  transpose(s.keys, padded, width, s.keys_t);
  for (int64_t i = 0; i < size; ++i) s.dkeys[i] = s.dvalues[i] = 0;
  for (int64_t first = 0; first < u.queries(); first += kAttentionBlock) block_backward(u, first, dout, g, s);
  store_rows(u, g.dk, u.a.k, u.first_key(), u.keys(), A(1), s.dkeys);
  store_rows(u, g.dv, u.a.v, u.first_key(), u.keys(), A(1), s.dvalues);
}

/// Calls work(unit, scratch) for every head of every sequence. Units are dealt out to slots by their number, so that neither the result nor
/// the scratch depends on threads.
template <class T, class F> void for_units(const Attention<T>& a, const F& work) {
  const int64_t units = (a.query_ends.dims[0] - 1) * a.heads;
  const uint64_t key = a.dropout > 0 ? random_key(*a.state) : 0;
#pragma omp parallel for schedule(dynamic)
  for (int64_t slot = 0; slot < kAttentionSlots; ++slot)
    for (int64_t unit = slot; unit < units; unit += kAttentionSlots)
      work(Unit<T>{a, unit / a.heads, unit % a.heads, key},
           Scratch<accum_t<T>>{a.workspace.data + slot * attention_slot_elements(a)});
}

/// Zeroes rows [first, end) of a packed matrix.
template <class T> void clear_rows(T* data, int64_t stride, int64_t width, int64_t first, int64_t end) {
  for (int64_t row = first; row < end; ++row)
    for (int64_t c = 0; c < width; ++c) data[row * stride + c] = T(0.0f);
}

template <class T>
void clear_tail(const Attention<T>& a, Sink<T> sink, PackedRows<const T> like, View<const int32_t> ends, int64_t rows) {
  if (sink && !sink.accumulate) clear_rows(sink.data, like.stride, a.heads * a.head_dim, ends.data[ends.dims[0] - 1], rows);
}

}  // namespace

template <Isa isa, class T> void attention_forward(Cpu<isa>, const Attention<T>& a) {
  for_units(a, [](const Unit<T>& unit, Scratch<accum_t<T>> scratch) { unit_forward(unit, scratch); });
  const int64_t width = a.heads * a.head_dim;
  clear_rows(a.out.data, width, width, a.query_ends.data[a.query_ends.dims[0] - 1], a.query_rows);
}

template <Isa isa, class T>
void attention_backward(Cpu<isa>, const Attention<T>& a, View<const T> dout, const AttentionGradients<T>& g) {
  const PackedRows<const T> rows{dout.data, a.heads * a.head_dim};
  for_units(a, [&](const Unit<T>& unit, Scratch<accum_t<T>> scratch) { unit_backward(unit, rows, g, scratch); });
  clear_tail(a, g.dq, a.q, a.query_ends, a.query_rows);
  clear_tail(a, g.dk, a.k, a.key_ends, a.key_rows);
  clear_tail(a, g.dv, a.v, a.key_ends, a.key_rows);
}

#define INSTANTIATE(T)                                               \
  template void attention_forward(Cpu<kIsa>, const Attention<T>&);   \
  template void attention_backward(Cpu<kIsa>, const Attention<T>&, View<const T>, const AttentionGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
