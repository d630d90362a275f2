// Shapes    x [x rows, columns], y [y rows, columns], index [y rows]; inverse [x rows].
// Mapping   copy_rows: a thread owns a pack of 16 bytes of y (or an element) and strides over the grid. invert_index: an entry a thread.
// Traffic   Reads the rows that arrive, writes y: 2 x size of y, 3 x when it adds; bound by memory.
// Numerics  Exact; one addition in f32 (f64 for f64), rounded once, when it adds. A row that is picked twice against the contract
//           has the last pick as its inverse, whatever the order of threads.
// Measured  docs/kernels.md.
#include "kernels/copy_rows.h"

#include "kernels/cuda/elements.cuh"

namespace libtrain::kernels {
namespace {

/// The row of x for row r of y, or -1; `notes` an entry beyond x.
template <class T> __device__ inline int64_t source_row(const CopyRows<T>& k, int64_t r, bool notes, BadIndex* note) {
  const int64_t x_rows = k.x.dims[0], source = k.index.data ? int64_t(k.index.data[r]) : r - k.offset;
  if (source >= 0 && source < x_rows) return source;
  if (k.index.data && source >= 0 && notes) note_bad_index(note, {BadIndex::kCopyRows, -1, r, source, x_rows});
  return -1;
}

/// y, `width` neighbours of a row a thread; a row has `parts` of them.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    copy_parts(CopyRows<T> k, int64_t parts, BadIndex* note) {
  const int64_t columns = parts * width, count = k.y_rows * parts;
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kBlockThreads) {
    const int64_t row = i / parts, column = (i - row * parts) * width;
    const int64_t source = source_row(k, row, column == 0, note);
    if (source < 0 && k.y.accumulate) continue;
    Elements<T, width> x = {};
    if (source >= 0) x = load_elements<width>(k.x.data + source * columns + column);
    put_elements(k.y.data + row * columns + column, x, k.y.accumulate);
  }
}

/// inverse[index[r]] = r, the greatest where there are several; inverse holds -1 before.
__global__ void __launch_bounds__(kBlockThreads)
    invert_entries(InvertIndex k, int64_t count, int64_t limit, BadIndex* note) {
  for (int64_t r = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; r < count;
       r += int64_t(gridDim.x) * kBlockThreads) {
    const int32_t source = k.index.data[r];
    if (source >= limit)
      note_bad_index(note, {BadIndex::kCopyRows, -1, r, source, limit});
    else if (source >= 0)
      atomicMax(k.inverse.data + source, int(r));
  }
}

}  // namespace

template <class T> void copy_rows(Cuda where, const CopyRows<T>& k) {
  const int64_t columns = k.x.dims[1];
  const bool wide = packs_fit(k.x.data, columns) && packs_fit(k.y.data, columns);
  const int64_t parts = wide ? columns / Pack<T>::kSize : columns;
  const LaunchShape shape{persistent_blocks(k.y_rows * parts, kBlockThreads, 8), kBlockThreads};
  launch(where, "copy_rows", shape, wide ? copy_parts<Pack<T>::kSize, T> : copy_parts<1, T>, k, parts, where.bad_index);
}

void invert_index(Cuda where, const InvertIndex& k) {
  const int64_t count = k.index.size(), limit = k.inverse.size();
  runtime::fill_bytes(k.inverse.data, 0xFF, size_t(limit) * sizeof(int32_t), where);
  launch(where, "invert_index", {persistent_blocks(count, kBlockThreads, 8), kBlockThreads}, invert_entries, k, count,
         limit, where.bad_index);
}

#define INSTANTIATE(T) template void copy_rows(Cuda, const CopyRows<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
