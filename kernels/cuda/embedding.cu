// Shapes    ids, positions [tokens]; y, dy [tokens, columns]; table, dtable [vocab, columns]; position_table [max positions, columns].
// Mapping   forward: a thread owns a pack of 16 bytes of y (or an element), draws its bits, and strides over the grid.
//           backward: rows are sorted by id (group_rows.cuh). A window is 32 neighbours of that order; a warp owns a window and a slice
//           of 32 packs of columns (or 32 columns), keeps one id, row number and place of dropout a lane, and sums what is kept of the rows
//           of each id in registers. Sums of ids that stand within one window go to dtable; those of ids that reach over windows go to
//           `partials`, and the last of their warps to finish adds them up, in order. So no warp sums more than 32 rows, however often an
//           id occurs. The launch that begins the sort also fills dtable with zeros where it is overwritten.
// Traffic   forward: reads the picked rows, writes y: 2 x tokens x columns, 3 x with positions. backward: reads dy once, writes the
//           rows of dtable that occur, after a fill with zeros where it overwrites; partials at most 1/8 of dy (bf16) both ways; the
//           sort moves 12 bytes a token and pass. Bound by memory.
// Numerics  f32 (f64 for f64), rounded once. Bits of dropout by logical place (kernels/philox.h), the same in both directions. A
//           group's sum: its rows in order within each window, then the windows in order.
// Measured  docs/kernels.md.
#include "kernels/embedding.h"

#include "kernels/cuda/dropout_bits.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/group_rows.cuh"

namespace libtrain::kernels {
namespace {

constexpr int kWarps = kBlockThreads / kWarp;
static_assert(kSumWindow == kWarp);

/// The row of `table` and of the position table for row r of y, negative: none. Whoever has `notes` set reports bad ones.
struct Picked {
  int64_t entry, position;
};
template <class T> __device__ inline Picked pick(const Embedding<T>& k, int64_t r, bool notes, BadIndex* note) {
  const int32_t id = k.ids.data[r], position = k.position_table.data ? k.positions.data[r] : -1;
  if (id >= 0 && id == k.pad_id) return {-1, -1};
  const int64_t vocab = k.table.dims[0], positions = k.position_table.dims[0];
  const bool id_is_good = id >= 0 && id < vocab;
  if (id_is_good && (!k.position_table.data || (position >= 0 && position < positions))) return {id, position};
  if (notes)
    note_bad_index(note,
                   {BadIndex::kEmbedding, position, r, id_is_good ? position : id, id_is_good ? positions : vocab});
  return {-1, -1};
}

/// Writes y: each thread owns `width` neighbouring elements of a row, which has `parts` such groups.
template <int width, class T> __global__ void __launch_bounds__(kBlockThreads)
    pick_rows(Embedding<T> k, int64_t parts, BadIndex* note) {
  const int64_t columns = parts * width, count = k.ids.dims[0] * parts;
  const Dropper<accum_t<T>> dropper(k.mask);
  for (int64_t i = blockIdx.x * int64_t(kBlockThreads) + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kBlockThreads) {
    const int64_t row = i / parts, column = (i - row * parts) * width;
    const Picked at = pick(k, row, column == 0, note);
    Elements<T, width> y = {}, position = {};
    if (at.entry >= 0) y = load_elements<width>(k.table.data + at.entry * columns + column);
    if (at.position >= 0) position = load_elements<width>(k.position_table.data + at.position * columns + column);
#pragma unroll
    for (int j = 0; j < width; ++j) y.at[j] = y.at[j] * accum_t<T>(k.scale) + position.at[j];
    if (k.mask.state) dropper.drop(y.at, dropper.place_of(k.mask, row), column);
    store_elements(k.y.data + row * columns + column, y);
  }
}

template <class T, class Out> struct WindowSums {
  Groups groups;
  const T* dy;
  Sink<Out> dtable;
  accum_t<T>*
      partials;  // [windows, 2, columns]: of the id that came from before the window, of the id that goes beyond it
  accum_t<T> scale;
  DropoutMask mask;   // of dy
  unsigned* tickets;  // [windows, slices]: of the ids that begin in a window and reach beyond it
  int64_t tokens, columns;
  int64_t slices;  // of a row, a warp each
  int32_t vocab;

  __host__ __device__ int64_t windows() const { return (tokens + kWarp - 1) / kWarp; }
  /// The id that stands at `place` of the order; `vocab` behind its end.
  __device__ int32_t id_at(int64_t place) const { return place < tokens ? groups.ids[place] : vocab; }
  __device__ accum_t<T>* partial(int64_t window, bool goes_beyond, int64_t column) const {
    return partials + (2 * window + goes_beyond) * columns + column;
  }
};

/// scale * sum into dtable.
template <class T, class Out, int width>
__device__ inline void put_scaled(const WindowSums<T, Out>& k, int32_t id, int64_t column, Elements<T, width> sum) {
#pragma unroll
  for (int j = 0; j < width; ++j) sum.at[j] *= k.scale;
  put_elements(k.dtable.data + id * k.columns + column, elements_as<Out>(sum), k.dtable.accumulate);
}

/// The sum of an id's rows in one window: complete, or a part.
template <int width, class T, class Out>
__device__ inline void put_sum(const WindowSums<T, Out>& k, int64_t window, int32_t id, int64_t column,
                               bool from_before, bool goes_beyond, const Elements<T, width>& sum) {
  if (from_before || goes_beyond)
    store_elements_whole(k.partial(window, !from_before, column), elements_as<accum_t<T>>(sum));
  else
    put_scaled(k, id, column, sum);
}

/// Warp: the place of dropout that `lane` holds.
__device__ inline DropoutRow place_in(int lane, DropoutRow held) {
  held.position = __shfl_sync(kAllLanes, held.position, lane);
  held.sequence = __shfl_sync(kAllLanes, held.sequence, lane);
  return held;
}

/// Warp: what one window brings to `width` columns a lane from `column` on.
template <int width, class T, class Out>
__device__ inline void sum_window(const WindowSums<T, Out>& k, int64_t window, int64_t column) {
  constexpr int kAtOnce = 4;
  const int lane = threadIdx.x % kWarp;
  const int64_t first = window * kWarp, place = first + lane;
  const int32_t id = k.id_at(place), row = place < k.tokens ? k.groups.order[place] : 0;
  const int32_t before = window > 0 ? k.groups.ids[first - 1] : -1, after = k.id_at(first + kWarp);
  const int32_t next = __shfl_down_sync(kAllLanes, id, 1);
  const unsigned ends = __ballot_sync(kAllLanes, id < k.vocab && (lane == kWarp - 1 || id != next));
  const int count = __popc(__ballot_sync(kAllLanes, id < k.vocab));
  const bool mine = column < k.columns;
  const Dropper<accum_t<T>> dropper(k.mask);
  const DropoutRow place_of_row = k.mask.state ? dropper.place_of(k.mask, row) : DropoutRow{};
  Elements<T, width> sum = {};
  bool from_before = __shfl_sync(kAllLanes, id, 0) == before;  // the id being summed
  for (int begin = 0; begin < count; begin += kAtOnce) {
    Elements<T, width> x[kAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t from = __shfl_sync(kAllLanes, row, begin + i);
      if (mine && begin + i < count) x[i] = load_elements<width>(k.dy + from * k.columns + column);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (k.mask.state) dropper.drop(x[i].at, place_in(begin + i, place_of_row), column);
#pragma unroll
      for (int j = 0; j < width; ++j) sum.at[j] += x[i].at[j];
      const int32_t of = __shfl_sync(kAllLanes, id, begin + i);
      if (ends >> (begin + i) & 1) {
        const bool goes_beyond = begin + i == kWarp - 1 && of == after;
        if (mine) put_sum(k, window, of, column, from_before, goes_beyond, sum);
        sum = {};
        from_before = false;
      }
    }
  }
}

/// Warp: the first window after `window` that does not begin with `id`.
template <class T, class Out>
__device__ inline int64_t window_beyond(const WindowSums<T, Out>& k, int32_t id, int64_t window) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t next = window + 1;; next += kWarp) {
    const unsigned same = __ballot_sync(kAllLanes, k.id_at((next + lane) * kWarp) == id);
    if (same != kAllLanes) return next + __ffs(int(~same)) - 1;
  }
}

/// Warp: the last window up to `window` in front of which `id` does not stand.
template <class T, class Out>
__device__ inline int64_t window_of_first(const WindowSums<T, Out>& k, int32_t id, int64_t window) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t next = window;; next -= kWarp) {
    const int64_t mine = next - lane;
    const unsigned same = __ballot_sync(kAllLanes, mine > 0 && k.id_at(mine * kWarp - 1) == id);
    if (same != kAllLanes) return next - (__ffs(int(~same)) - 1);
  }
}

/// Warp: whether it is the last of `count` warps to come here with this ticket, which is 0 before and after. It may then read what the others
/// wrote before their blocks' last barriers.
__device__ inline bool warp_arrives_last(unsigned* ticket, int64_t count) {
  unsigned before = 0;
  if (threadIdx.x % kWarp == 0) before = ptx::atomic_inc_acq_rel(ticket, unsigned(count - 1));
  __syncwarp();
  return __shfl_sync(kAllLanes, before, 0) == unsigned(count - 1);
}

/// Warp: adds up the partial sums of an id that reaches over windows, of which `window` is one, when all of them are there.
template <int width, class T, class Out>
__device__ inline void finish_id(const WindowSums<T, Out>& k, int32_t id, int64_t window, int64_t slice) {
  const int64_t first = window_of_first(k, id, window), end = window_beyond(k, id, window);
  const int64_t column = (slice * kWarp + threadIdx.x % kWarp) * width;
  if (!warp_arrives_last(k.tickets + first * k.slices + slice, end - first) || column >= k.columns) return;
  auto sum = load_elements<width>(k.partial(first, true, column));
#pragma unroll 4
  for (int64_t w = first + 1; w < end; ++w) {
    const auto more = load_elements<width>(k.partial(w, false, column));
#pragma unroll
    for (int j = 0; j < width; ++j) sum.at[j] += more.at[j];
  }
  put_scaled(k, id, column, elements_as<T>(sum));
}

/// Warp: likewise, those that reach over the ends of `window`.
template <int width, class T, class Out>
__device__ inline void finish_ids(const WindowSums<T, Out>& k, int64_t window, int64_t slice) {
  const int64_t first = window * kWarp;
  const int32_t begins = k.id_at(first), ends = k.id_at(first + kWarp - 1);
  const bool from_before = window > 0 && begins < k.vocab && k.id_at(first - 1) == begins;
  const bool goes_beyond = ends < k.vocab && k.id_at(first + kWarp) == ends;
  if (from_before) finish_id<width>(k, begins, window, slice);
  if (goes_beyond && !(from_before && begins == ends)) finish_id<width>(k, ends, window, slice);
}

/// Sums each window's rows by id, a window and a slice of the columns a warp.
template <int width, class T, class Out> __global__ void __launch_bounds__(kBlockThreads, 2)
    sum_windows(WindowSums<T, Out> k) {
  const int64_t items = k.windows() * k.slices;
  for (int64_t of_block = blockIdx.x * int64_t(kWarps); of_block < items; of_block += int64_t(gridDim.x) * kWarps) {
    const int64_t item = of_block + threadIdx.x / kWarp, window = item / k.slices, slice = item % k.slices;
    if (item < items) sum_window<width>(k, window, (slice * kWarp + threadIdx.x % kWarp) * width);
    __syncthreads();  // for the warps of a block, between which tickets order nothing
    if (item < items) finish_ids<width>(k, window, slice);
  }
}

template <int width, class T, class Out> void launch_sums(Cuda where, WindowSums<T, Out> k) {
  k.slices = embedding_slices(k.columns, width);
  const unsigned blocks = persistent_blocks(k.windows() * k.slices, kWarps, 8);
  launch(where, "embedding_backward", {blocks, kBlockThreads}, sum_windows<width, T, Out>, k);
}

}  // namespace

template <class T> void embedding_forward(Cuda where, const Embedding<T>& k) {
  const int64_t tokens = k.ids.size(), columns = k.table.dims[1];
  const bool wide =
      packs_fit(k.table.data, columns) && packs_fit(k.y.data, columns) && packs_fit(k.position_table.data, columns);
  const int64_t parts = wide ? columns / Pack<T>::kSize : columns;
  const LaunchShape shape{persistent_blocks(tokens * parts, kBlockThreads, 8), kBlockThreads};
  launch(where, "embedding_forward", shape, wide ? pick_rows<Pack<T>::kSize, T> : pick_rows<1, T>, k, parts,
         where.bad_index);
}

template <class T, class Out>
void embedding_backward(Cuda where, const Embedding<T>& k, View<const T> dy, const EmbeddingGradient<T, Out>& g) {
  const int64_t tokens = k.ids.size(), vocab = k.table.dims[0], columns = k.table.dims[1];
  const int64_t bytes = g.dtable.accumulate ? 0 : vocab * columns * int64_t(sizeof(Out));
  const bool fills = bytes > 0 && bytes % 16 == 0 && aligned_16(g.dtable.data) && tokens > 0;
  if (bytes > 0 && !fills) runtime::fill_bytes(g.dtable.data, 0, size_t(bytes), where);
  if (tokens == 0 || columns == 0) return;
  const bool wide =
      packs_fit(dy.data, columns) && packs_fit(g.dtable.data, columns) && packs_fit(g.partials.data, columns);
  const int width = wide ? Pack<T>::kSize : 1;
  SortZeros zeros{.words = g.workspace.data + 4 * tokens,
                  .packs = nullptr,
                  .word_count = embedding_tickets(tokens, columns, width),
                  .pack_count = 0};
  if (fills) zeros.packs = reinterpret_cast<uint4*>(g.dtable.data), zeros.pack_count = bytes / 16;
  const Groups groups =
      group_rows(where, "embedding_backward", k.ids, vocab, k.pad_id, BadIndex::kEmbedding, g.workspace.data, zeros);
  const WindowSums<T, Out> sums{.groups = groups,
                                .dy = dy.data,
                                .dtable = g.dtable,
                                .partials = g.partials.data,
                                .scale = accum_t<T>(k.scale),
                                .mask = k.mask,
                                .tickets = reinterpret_cast<unsigned*>(zeros.words),
                                .tokens = tokens,
                                .columns = columns,
                                .slices = 0,
                                .vocab = int32_t(vocab)};
  wide ? launch_sums<Pack<T>::kSize>(where, sums) : launch_sums<1>(where, sums);
}

#define INSTANTIATE(T)                                        \
  template void embedding_forward(Cuda, const Embedding<T>&); \
  template void embedding_backward(Cuda, const Embedding<T>&, View<const T>, const EmbeddingGradient<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)
template void embedding_backward(Cuda, const Embedding<bf16>&, View<const bf16>, const EmbeddingGradient<bf16, bf16>&);

}  // namespace libtrain::kernels
