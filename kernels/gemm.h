/// Matrix product: c = op(a) op(b) + bias, or c += the same. op transposes or does nothing; bias is added to every row.
///   op(a) [m, k], op(b) [k, n], bias [n], c [m, n]
/// A batch is so many products of one shape; on the CPU each has the bits that it would have alone. Products are summed in accum_t<In>; c is rounded to Out once. With k = 0, op(a) op(b) is zero. c aliases no operand.
#pragma once
#include "kernels/dtype.h"

namespace libtrain::kernels {

/// What becomes of op(a) op(b) + bias before it is rounded: GELU in its tanh form (kernels/pointwise.h), the one that cuBLASLt has.
enum class GemmActivation : uint8_t { kNone, kRelu, kGeluTanh };

/// How many products there are, and how many elements after one matrix (or vector) the next begins; 0: all have the same one (c and sums
/// never).
struct GemmBatch {
  int64_t count = 1;
  int64_t a = 0, b = 0, c = 0;
  int64_t bias = 0, sums = 0;  // CUDA alone: on the CPU there are no sums, and all have the same bias
};

/// Instantiated for (In, Out) = (float, float), (double, double), (bf16, bf16), (bf16, float).
template <class In, class Out> struct Gemm {
  View<const In> a{};  // [m, k], or [k, m] with transpose_a
  View<const In> b{};  // [k, n], or [n, k] with transpose_b
  bool transpose_a = false;
  bool transpose_b = false;
  View<const In> bias{};                              // [n], or none
  GemmActivation activation = GemmActivation::kNone;  // none where c is added to
  Sink<Out> c{};                                      // [m, n]
  /// [m], CUDA alone, with transpose_a and k, n > 0: the sums of op(a)'s rows, from the pass that reads a: where c is the gradient of a
  /// weight, that of its bias.
  Sink<accum_t<In>> sums{};
  GemmBatch batch{};              // a, b, bias, c and sums are those of its first product
  View<accum_t<In>> workspace{};  // [gemm_workspace(device, *this)], or none where that is 0

  int64_t m() const { return a.dims[transpose_a ? 1 : 0]; }
  int64_t k() const { return a.dims[transpose_a ? 0 : 1]; }
  int64_t n() const { return b.dims[transpose_b ? 0 : 1]; }
};

/// No dimension may be larger: BLAS counts in 32 bits.
constexpr int64_t kGemmMaxSize = INT32_MAX;

/// Elements of workspace. On the CPU, bf16 operands (and bf16 results) are converted to f32 there, and what pieces of a long sum give
/// stands there until it is added up.
template <Isa isa, class In, class Out> int64_t gemm_workspace(Cpu<isa>, const Gemm<In, Out>&);
template <class In, class Out> int64_t gemm_workspace(Cuda, const Gemm<In, Out>&);

template <Isa isa, class In, class Out> void gemm(Cpu<isa>, const Gemm<In, Out>&);
template <class In, class Out> void gemm(Cuda, const Gemm<In, Out>&);

/// Whether products of f32 on a CUDA device may round their operands to TF32 (10 bits of fraction). They may not unless asked.
void set_gemm_tf32(bool allowed);

}  // namespace libtrain::kernels
