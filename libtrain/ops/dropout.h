#pragma once
#include "kernels/dropout.h"
#include "libtrain/ops/add.h"
#include "libtrain/packing.h"
#include "libtrain/tape.h"

namespace libtrain {

/// How and where to drop. Bits follow from the seed and step in `random_state`, from `stream` and from the logical
/// place of an element (sequence, position, column), so packed and padded layouts draw the same; no mask is stored.
struct DropoutSpec {
  /// Share of the elements set to zero, in [0, 1), rounded to a multiple of 1/65536; 0 switches dropout off.
  float p = 0;
  /// Tells the places of a model apart: Parameters::new_random_stream().
  uint32_t stream = 0;
  /// Parameters::random_state(): i64[2] holding a RandomState; must not change between forward and backward.
  Tensor random_state = {};

  /// Whether dropout acts: p > 0 and a Tape is alive on this thread.
  bool active() const { return p > 0 && Tape::active() != nullptr; }
};

/// Zeroes a share p of the elements and divides the others by 1 - p (Srivastava et al., JMLR 2014); x itself when the
/// spec is not active.
///   x [tokens, columns] f32, bf16 or f64, packed as `packing` says  →  the shape and dtype of x
/// A dropped element is 0 even where x is NaN or infinite. Throws InvalidArgument for p outside [0, 1) and for shapes
/// that do not fit.
Tensor dropout(const Tensor& x, const Packing& packing, const DropoutSpec& spec);
/// Likewise for x [..., columns] that belongs to no sequences: row r of the matrix draws as (sequence 0, position r).
Tensor dropout(const Tensor& x, const DropoutSpec& spec);
/// residual + dropout(x), both [tokens, columns], in one pass.
Tensor dropout_add(const Tensor& residual, const Tensor& x, const Packing& packing, const DropoutSpec& spec);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// p, the share that `op` is to drop and calls `name`. Throws InvalidArgument unless it is one.
inline float checked_share(const char* op, const char* name, float p) {
  LIBTRAIN_CHECK(p >= 0 && p < 1, "[{}] {} must be in [0, 1), got {}; 0 turns it off, 0.1 is usual", op, name, p);
  return p;
}

/// Of the operation `op`, which drops elements of x.
inline void check_dropout(const char* op, const Tensor& x, const Packing& packing, const DropoutSpec& spec) {
  constexpr uint32_t kStreams = uint32_t(1) << 31;  // words from there on are those of attention
  checked_share(op, "p", spec.p);
  LIBTRAIN_CHECK(x.rank() >= 1, "[{}] x must be [..., columns], got {}; reshape() it", op, x.spec());
  LIBTRAIN_CHECK(spec.stream < kStreams, "[{}] stream must be below {}, got {}; new_random_stream() counts them from 0",
                 op, kStreams, spec.stream);
  if (!spec.active()) return;
  check_is(op, "random_state", spec.random_state, DType::i64, x.device(), {2});
  LIBTRAIN_CHECK(packing.positions.defined() == packing.sequences.defined(),
                 "[{}] packing must have positions and sequences, or neither, got {} and {}; make_packing() makes both",
                 op, packing.positions.spec(), packing.sequences.spec());
  if (!packing.positions.defined()) return;
  LIBTRAIN_CHECK(x.rank() == 2, "[{}] packed x must be [tokens, columns], got {}; reshape() it, or pass no packing", op,
                 x.spec());
  check_is(op, "packing.positions", packing.positions, DType::i32, x.device(), {x.dim(0)});
  check_is(op, "packing.sequences", packing.sequences, DType::i32, x.device(), {x.dim(0)});
}

/// The kernels' view of an active and checked spec.
inline kernels::DropoutMask dropout_mask(const Packing& packing, const DropoutSpec& spec) {
  const auto rows_of = [](const Tensor& t) { return t.defined() ? t.view<const int32_t>() : View<const int32_t>{}; };
  const auto* state = reinterpret_cast<const RandomState*>(spec.random_state.view<const int64_t>().data);
  return {rows_of(packing.sequences), rows_of(packing.positions), state, spec.stream, spec.p};
}

/// dropout(x), plus `residual` if that is defined. The spec is active and checked.
inline Tensor active_dropout(const Tensor& residual, const Tensor& x, const Packing& packing, const DropoutSpec& spec) {
  const Tensor y(x.shape(), x.dtype(), x.device());
  visit_float("dropout", x.dtype(), [&]<class T> {
    const kernels::Dropout<T> args{x.matrix<const T>(),
                                   residual.defined() ? residual.matrix<const T>() : View<const T>{}, y.matrix<T>(),
                                   dropout_mask(packing, spec)};
    on(x.device(), [&](auto device) { kernels::dropout_forward(device, args); });
    record("dropout", y, {x, residual}, {packing.sequences, packing.positions, spec.random_state},
           [args](const BackwardStep& step) {
             const kernels::DropoutGradients<T> gradients{step.sink_in_place<T>(0),
                                                          args.residual ? step.sink<T>(1) : Sink<T>{}};
             on(step.output.device(),
                [&](auto device) { kernels::dropout_backward(device, args, step.doutput<T>(), gradients); });
           });
  });
  return y;
}

}  // namespace detail

inline Tensor dropout(const Tensor& x, const Packing& packing, const DropoutSpec& spec) {
  detail::check_dropout("dropout", x, packing, spec);
  return spec.active() ? detail::active_dropout({}, x, packing, spec) : x;
}

inline Tensor dropout(const Tensor& x, const DropoutSpec& spec) { return dropout(x, Packing{}, spec); }

inline Tensor dropout_add(const Tensor& residual, const Tensor& x, const Packing& packing, const DropoutSpec& spec) {
  detail::check_dropout("dropout_add", x, packing, spec);
  check_like("dropout_add", "residual", residual, x, x.shape());
  return spec.active() ? detail::active_dropout(residual, x, packing, spec) : add(residual, x);
}

}  // namespace libtrain
