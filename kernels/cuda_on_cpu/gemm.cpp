// The stand-in for cuBLASLt: the CPU's own kernel (kernels/cpu/gemm.cpp, compiled into this library once more), run when its turn in
// the stream comes. It rounds where the device does: operands to f32, sums in f32, the result once.
#include "kernels/gemm.h"

#include <vector>

#include "kernels/cuda_on_cpu/executor.h"

namespace libtrain::kernels {
namespace {

using Host = Cpu<Isa::kBaseline>;

/// Bytes of `count` matrices of an operand, `stride` apart, which lie in the memory of the device; none if it was not given.
template <class T> int64_t checked_bytes(const T* data, int64_t size, int64_t count = 1, int64_t stride = 0) {
  if (!data) return 0;
  executor::check_range(data, ((count - 1) * stride + size) * int64_t(sizeof(T)), "gemm");
  return (stride ? count : 1) * size * int64_t(sizeof(T));
}

/// The sums of a's columns: op(a)'s rows.
template <class In> void sum_columns(const In* a, int64_t rows, int64_t columns, Sink<accum_t<In>> sums) {
  for (int64_t c = 0; c < columns; ++c) {
    accum_t<In> sum = 0;
    for (int64_t row = 0; row < rows; ++row) sum += accum_t<In>(a[row * columns + c]);
    sums.data[c] = sums.accumulate ? sums.data[c] + sum : sum;
  }
}

/// Product `i` of a batch, alone.
template <class In, class Out> Gemm<In, Out> product(const Gemm<In, Out>& g, int64_t i) {
  Gemm<In, Out> one = g;
  one.a.data += i * g.batch.a;
  one.b.data += i * g.batch.b;
  one.c.data += i * g.batch.c;
  if (g.bias) one.bias.data += i * g.batch.bias;
  if (g.sums) one.sums.data += i * g.batch.sums;
  one.batch = {};
  return one;
}

}  // namespace

template <class In, class Out> void gemm(Cuda where, const Gemm<In, Out>& g) {
  const GemmBatch& batch = g.batch;
  if (g.m() == 0 || g.n() == 0 || batch.count == 0) return;
  const int64_t read = checked_bytes(g.a.data, g.m() * g.k(), batch.count, batch.a) +
                       checked_bytes(g.b.data, g.k() * g.n(), batch.count, batch.b) +
                       checked_bytes(g.bias.data, g.n(), batch.count, batch.bias);
  const int64_t matrices = checked_bytes(g.c.data, g.m() * g.n(), batch.count, batch.c);
  const int64_t sums = checked_bytes(g.sums.data, g.m(), batch.count, batch.sums);
  const int64_t added_to = (g.c.accumulate ? matrices : 0) + (g.sums.accumulate ? sums : 0);
  executor::enqueue(where, {"gemm", read + added_to, matrices + sums}, [g = Gemm<In, Out>(g)] {
    for (int64_t i = 0; i < g.batch.count; ++i) {
      Gemm<In, Out> one = product(g, i);
      std::vector<accum_t<In>> workspace(size_t(gemm_workspace(Host{}, one)));
      one.workspace = {workspace.data(), {int64_t(workspace.size()), 1, 1, 1}};
      gemm(Host{}, one);
      if (one.sums) sum_columns(one.a.data, one.k(), one.m(), one.sums);
    }
  });
}

/// The CPU's kernel gets its workspace when it runs, which a device's could not.
template <class In, class Out> int64_t gemm_workspace(Cuda, const Gemm<In, Out>&) { return 0; }
/// Allowed is not obliged: products stay in f32.
void set_gemm_tf32(bool) {}

template int64_t gemm_workspace(Cuda, const Gemm<float, float>&);
template int64_t gemm_workspace(Cuda, const Gemm<double, double>&);
template int64_t gemm_workspace(Cuda, const Gemm<bf16, bf16>&);
template int64_t gemm_workspace(Cuda, const Gemm<bf16, float>&);
template void gemm(Cuda, const Gemm<float, float>&);
template void gemm(Cuda, const Gemm<double, double>&);
template void gemm(Cuda, const Gemm<bf16, bf16>&);
template void gemm(Cuda, const Gemm<bf16, float>&);

}  // namespace libtrain::kernels
