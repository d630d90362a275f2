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

}  // namespace

template <class In, class Out> void gemm(Cuda where, const Gemm<In, Out>& g) {
  const GemmBatch& batch = g.batch;
  if (g.m() == 0 || g.n() == 0 || batch.count == 0) return;
  const int64_t read = checked_bytes(g.a.data, g.m() * g.k(), batch.count, batch.a) +
                       checked_bytes(g.b.data, g.k() * g.n(), batch.count, batch.b) + checked_bytes(g.bias.data, g.n());
  const int64_t written = checked_bytes(g.c.data, g.m() * g.n(), batch.count, batch.c);
  executor::enqueue(where, {"gemm", read + (g.c.accumulate ? written : 0), written}, [g = Gemm<In, Out>(g)]() mutable {
    std::vector<accum_t<In>> workspace(size_t(gemm_workspace(Host{}, g)));
    g.workspace = {workspace.data(), {int64_t(workspace.size()), 1, 1, 1}};
    gemm(Host{}, g);
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
