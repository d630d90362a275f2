// Shapes    y [s0, s1, s2, s3]; arguments likewise, each with dimensions that it repeats (strides 0).
// Mapping   Rows of the last dimension are cut into packs of 16 bytes (the last of a row element by element; single elements where rows or
//           addresses do not divide into packs); a thread owns one and strides over the grid. Of an argument that repeats its last
//           dimension it reads one element for all.
// Traffic   Reads what is not repeated and writes y (and reads it first where it adds): 3 x size for equal shapes, 2 x size where an argument is
//           small; repeated ones come again from the cache. Bound by memory.
// Numerics  f32 (f64 for f64), rounded once; divisions to nearest.
// Measured  docs/kernels.md.
#include "kernels/cuda/broadcast.cuh"

#include "kernels/cuda/math.cuh"

namespace libtrain::kernels {
namespace {

/// y (+)= f(arguments), `width` elements a thread; a row has `across` such parts.
template <class F, int width, class T, class Out> __global__ void __launch_bounds__(kBlockThreads, 2)
    broadcast_kernel(Broadcast<T, Out> k, int64_t parts, int64_t across) {
  for_row_parts<width>(k.sizes, parts, across, [&]<int size>(const RowPlace& row, int64_t column, int64_t place) {
    const auto a = load_operand<size>(k.in[0], row, column), b = load_operand<size>(k.in[1], row, column);
    Elements<T, size> dy{};
    if constexpr (F::kInputs > 2) dy = load_operand<size>(k.in[2], row, column);
#pragma unroll
    for (int j = 0; j < size; ++j) dy.at[j] = F::template apply<CudaMath>(a.at[j], b.at[j], dy.at[j]);
    put_elements(k.y.data + place, elements_as<Out>(dy), k.y.accumulate);
  });
}

}  // namespace

template <class F, class T, class Out> void broadcast(Cuda where, const Broadcast<T, Out>& k) {
  constexpr int kSize = Pack<T>::kSize;
  bool fit = true;
  for (const Operand<T>& in : k.in) fit &= rows_of_packs(in, k.sizes, kSize);
  const RowParts parts = row_parts<T>(k.sizes, k.y.data, fit);
  launch(where, "broadcast", parts.shape(),
         parts.wide ? broadcast_kernel<F, kSize, T, Out> : broadcast_kernel<F, 1, T, Out>, k, parts.count,
         parts.across);
}

#define INSTANTIATE_FOR(F, T, Out) template void broadcast<F>(Cuda, const Broadcast<T, Out>&);
#define INSTANTIATE(F)             \
  INSTANTIATE_FOR(F, float, float) \
  INSTANTIATE_FOR(F, bf16, bf16) INSTANTIATE_FOR(F, bf16, float) INSTANTIATE_FOR(F, double, double)
LIBTRAIN_BROADCAST(INSTANTIATE)

}  // namespace libtrain::kernels
