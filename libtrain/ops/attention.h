#pragma once
#include <cmath>

#include "kernels/attention.h"
#include "libtrain/ops/dropout.h"
#include "libtrain/packing.h"
#include "libtrain/tape.h"

namespace libtrain {

/// What both attentions are told besides their tensors.
struct AttentionOptions {
  int64_t heads = 1;      ///< that the width is divided into, at most 1024
  bool causal = false;    ///< whether a position sees only itself and those before it
  DropoutSpec dropout{};  ///< of the attention probabilities; acts while a Tape is alive
};

/// Multi-head attention of packed sequences to themselves: softmax(q k^T / sqrt(width / heads)) v by sequence and head.
///   qkv [tokens, 3 * width] f32, bf16 or f64: queries, keys, values as one projection leaves them  →  [tokens, width]
/// Saved for backward: the output and one log-sum-exp for each row and head, never the probabilities: at most 32 rows
/// of scores exist for each thread. Rows of no sequence are zero, in the output and in the gradient, whatever they
/// hold; probabilities draw their dropout bits by (query, sequence, head; key). Sources: Vaswani et al., NeurIPS 2017;
/// Dao et al., NeurIPS 2022. Throws InvalidArgument when shapes, dtypes, heads or packing do not fit; on the CPU also
/// when cu_seqlens do not describe the rows of qkv.
Tensor self_attention(const Tensor& qkv, const Packing& packing, const AttentionOptions& options);

/// Likewise of packed queries to the keys and values of the sequence with the same number. Lengths may differ: a query
/// whose sequence has no keys gives 0. Never causal.
///   q [query tokens, width], kv [key tokens, 2 * width] (keys, values)  →  [query tokens, width]
Tensor cross_attention(const Tensor& q, const Tensor& kv, const Packing& queries, const Packing& keys,
                       const AttentionOptions& options);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// Where the numbers are within reach, checks that kernels stay within rows and scratch.
inline void check_ends(const char* op, const char* argument, const Packing& packing) {
  if (packing.cu_seqlens.device() != Device::kCpu) return;
  const int32_t* ends = packing.cu_seqlens.view<const int32_t>().data;
  LIBTRAIN_CHECK(ends[0] == 0, "[{}] {}.cu_seqlens must begin with 0, got {}; make_packing() makes them from lengths",
                 op, argument, ends[0]);
  for (int64_t s = 0; s < packing.count(); ++s)
    LIBTRAIN_CHECK(
        ends[s] <= ends[s + 1] && ends[s + 1] <= packing.tokens() && ends[s + 1] - ends[s] <= packing.max_length,
        "[{}] {}.cu_seqlens: sequence {} is rows [{}, {}) of {}, max_length is {}; make_packing() makes them agree", op,
        argument, s, ends[s], ends[s + 1], packing.tokens(), packing.max_length);
}

inline void check_packing(const char* op, const char* argument, const Packing& packing, const Tensor& rows) {
  LIBTRAIN_CHECK(packing.cu_seqlens.defined() && packing.positions.defined(),
                 "[{}] {} is empty; make_packing() makes one from lengths", op, argument);
  const Tensor& ends = packing.cu_seqlens;
  LIBTRAIN_CHECK(ends.rank() == 1 && ends.dim(0) >= 1,
                 "[{}] {}.cu_seqlens must be i32[sequences + 1], got {}; make_packing() makes them from lengths", op,
                 argument, ends.spec());
  check_is(op, format_message("{}.cu_seqlens", argument).c_str(), ends, DType::i32, rows.device(), ends.shape());
  LIBTRAIN_CHECK(packing.tokens() == rows.dim(0),
                 "[{}] {} describes {} tokens, got {}; pass the packing that the rows were made with", op, argument,
                 packing.tokens(), rows.spec());
  check_ends(op, argument, packing);
}

/// rows: [tokens, parts * width]
inline void check_attention(const char* op, const char* argument, const Tensor& rows, int64_t parts,
                            const AttentionOptions& options) {
  LIBTRAIN_CHECK(rows.defined() && rows.rank() == 2 && rows.dim(1) > 0 && rows.dim(1) % parts == 0,
                 "[{}] {} must be [tokens, {}width], got {}; reshape() or project it", op, argument,
                 parts == 3 ? "3 * " : "", rows.spec());
  LIBTRAIN_CHECK(
      options.heads > 0 && options.heads <= kernels::kAttentionHeads && rows.dim(1) / parts % options.heads == 0,
      "[{}] heads must be in [1, {}] and divide the width {}, got {}; choose another number of heads", op,
      kernels::kAttentionHeads, rows.dim(1) / parts, options.heads);
  const DropoutSpec& dropout = options.dropout;
  LIBTRAIN_CHECK(dropout.p >= 0 && dropout.p < 1, "[{}] dropout.p must be in [0, 1), got {}; 0 turns it off", op,
                 dropout.p);
  LIBTRAIN_CHECK(dropout.stream < kernels::kAttentionStreams,
                 "[{}] dropout.stream must be below {}, got {}; new_random_stream() counts them from 0", op,
                 kernels::kAttentionStreams, dropout.stream);
  if (dropout.active()) check_is(op, "dropout.random_state", dropout.random_state, DType::i64, rows.device(), {2});
}

/// What self and cross attention share: everything but where queries, keys and values lie.
template <class T> kernels::Attention<T> attention_arguments(const Tensor& out, const Tensor& lse,
                                                             const Packing& queries, const Packing& keys,
                                                             const AttentionOptions& options) {
  kernels::Attention<T> args{};
  args.query_ends = queries.cu_seqlens.view<const int32_t>();
  args.key_ends = keys.cu_seqlens.view<const int32_t>();
  args.query_rows = queries.tokens();
  args.key_rows = keys.tokens();
  args.heads = options.heads;
  args.head_dim = out.dim(1) / options.heads;
  args.max_queries = queries.max_length;
  args.max_keys = keys.max_length;
  args.scale = 1 / std::sqrt(double(args.head_dim));
  args.causal = options.causal;
  args.out = out.view<T>();
  args.lse = lse.view<accum_t<T>>();
  if (!options.dropout.active()) return args;
  args.dropout = options.dropout.p;
  args.stream = options.dropout.stream;
  args.state = reinterpret_cast<const RandomState*>(options.dropout.random_state.view<const int64_t>().data);
  return args;
}

template <class T> void run_attention_forward(Device where, kernels::Attention<T> args) {
  on(where, [&](auto device) {
    const Tensor workspace({kernels::attention_workspace(device, args)}, accum_dtype(dtype_of<T>), where);
    args.workspace = workspace.view<accum_t<T>>();
    kernels::attention_forward(device, args);
  });
}

template <class T> void run_attention_backward(Device where, kernels::Attention<T> args, View<const T> dout,
                                               const kernels::AttentionGradients<T>& gradients) {
  on(where, [&](auto device) {
    const Tensor workspace({kernels::attention_workspace(device, args)}, accum_dtype(dtype_of<T>), where);
    args.workspace = workspace.view<accum_t<T>>();
    kernels::attention_backward(device, args, dout, gradients);
  });
}

/// The gradient of input i: on the CPU over its values, where nobody else sees that.
template <class T> Sink<T> attention_sink(const BackwardStep& step, size_t i) {
  return step.output.device() == Device::kCpu ? step.sink_in_place<T>(i) : step.sink<T>(i);
}

/// The part of a sink that begins `offset` elements into each row.
template <class T> Sink<T> part(Sink<T> sink, int64_t offset) {
  return sink ? Sink<T>{sink.data + offset, sink.accumulate} : sink;
}

}  // namespace detail

inline Tensor self_attention(const Tensor& qkv, const Packing& packing, const AttentionOptions& options) {
  detail::check_attention("self_attention", "qkv", qkv, 3, options);
  detail::check_packing("self_attention", "packing", packing, qkv);
  const int64_t width = qkv.dim(1) / 3, stride = qkv.dim(1);
  const Tensor out({qkv.dim(0), width}, qkv.dtype(), qkv.device());
  const Tensor lse({options.heads, qkv.dim(0)}, accum_dtype(qkv.dtype()), qkv.device());
  visit_float("self_attention", qkv.dtype(), [&]<class T> {
    auto args = detail::attention_arguments<T>(out, lse, packing, packing, options);
    const T* data = qkv.view<const T>().data;
    args.q = {data, stride};
    args.k = {data + width, stride};
    args.v = {data + 2 * width, stride};
    detail::run_attention_forward(qkv.device(), args);
    record("self_attention", out, {qkv}, {out, lse, packing.cu_seqlens, options.dropout.random_state},
           [args, width](const BackwardStep& step) {
             const Sink<T> d = detail::attention_sink<T>(step, 0);
             detail::run_attention_backward(step.output.device(), args, step.doutput<T>(),
                                            {d, detail::part(d, width), detail::part(d, 2 * width)});
           });
  });
  return out;
}

inline Tensor cross_attention(const Tensor& q, const Tensor& kv, const Packing& queries, const Packing& keys,
                              const AttentionOptions& options) {
  detail::check_attention("cross_attention", "q", q, 1, options);
  const int64_t width = q.dim(1);
  LIBTRAIN_CHECK(kv.defined() && kv.rank() == 2,
                 "[cross_attention] kv must be [key tokens, {}], got {}; keys and values stand side by side", 2 * width,
                 kv.spec());
  check_like("cross_attention", "kv", kv, q, {kv.dim(0), 2 * width});
  LIBTRAIN_CHECK(q.node_handle() != kv.node_handle(),
                 "[cross_attention] q and kv are one tensor, {}; pass scale(q, 1) for q", q.spec());
  detail::check_packing("cross_attention", "queries", queries, q);
  detail::check_packing("cross_attention", "keys", keys, kv);
  LIBTRAIN_CHECK(
      queries.count() == keys.count(),
      "[cross_attention] queries have {} sequences, keys {}; each sequence of queries needs one of keys, be it empty",
      queries.count(), keys.count());
  LIBTRAIN_CHECK(!options.causal,
                 "[cross_attention] cannot be causal: queries and keys are positions of different sequences; leave "
                 ".causal at false");
  const Tensor out(q.shape(), q.dtype(), q.device());
  const Tensor lse({options.heads, q.dim(0)}, accum_dtype(q.dtype()), q.device());
  visit_float("cross_attention", q.dtype(), [&]<class T> {
    auto args = detail::attention_arguments<T>(out, lse, queries, keys, options);
    const T* data = kv.view<const T>().data;
    args.q = {q.view<const T>().data, width};
    args.k = {data, 2 * width};
    args.v = {data + width, 2 * width};
    detail::run_attention_forward(q.device(), args);
    record("cross_attention", out, {q, kv},
           {out, lse, queries.cu_seqlens, keys.cu_seqlens, options.dropout.random_state},
           [args, width](const BackwardStep& step) {
             const Sink<T> d = detail::attention_sink<T>(step, 1);
             detail::run_attention_backward(step.output.device(), args, step.doutput<T>(),
                                            {detail::attention_sink<T>(step, 0), d, detail::part(d, width)});
           });
  });
  return out;
}

}  // namespace libtrain
