// Bugs with addresses: past an end, misaligned, or of memory that is no longer there or not the device's; as in planted_bugs.cu.
#include "tests/cuda/planted_runs.cuh"

namespace libtrain::kernels::planted {
namespace {

template <bool planted> __global__ void reads_past_end(const float* x, float* y, int64_t count) {
  const int64_t i = int64_t(threadIdx.x) * 4 + count - kThreads * 4 + (planted ? 4 : 0);
  const Pack<float> pack = load_pack(x + i);
  y[threadIdx.x] = pack.at[0] + pack.at[3] + (planted ? 0 : 1);
}

template <bool planted> __global__ void writes_past_end(const float* x, float* y, int64_t count) {
  for (int64_t i = threadIdx.x; i < count + (planted ? 1 : 0); i += kThreads) y[i] = i < count ? x[i] : 0.0f;
}

template <bool planted> __global__ void leaves_last(const float* x, float* y, int64_t count) {
  for (int64_t i = threadIdx.x; i < count - (planted ? 1 : 0); i += kThreads) y[i] = x[i] + 1;
}

template <bool planted> __global__ void index_past_row(const float* x, float* y) {
  __shared__ float tile[kThreads / 32][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  tile[warp][lane] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[warp][planted ? lane + 1 : lane];
}

template <bool planted> __global__ void past_dynamic_shared(const float* x, float* y) {
  LIBTRAIN_DYNAMIC_SHARED(raw);
  float* tile = reinterpret_cast<float*>(raw);
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[planted ? threadIdx.x + 1 : threadIdx.x];
}

template <bool planted> __global__ void misaligned_vector(const float* x, float* y) {
  const Pack<float> pack = load_pack(x + threadIdx.x * 4 + (planted ? 1 : 0));
  y[threadIdx.x] = pack.at[0];
}

template <bool planted> __global__ void misaligned_scalar(const float* x, float* y) {
  const auto* odd = reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + (planted ? 2 : 4));
  y[threadIdx.x] = odd[threadIdx.x];
}

template <bool planted> __global__ void misaligned_ldmatrix(const float* x, float* y) {
  __shared__ __align__(16) float rows[32 * 4 + 4];
  const int lane = threadIdx.x;
  for (int i = lane; i < 32 * 4 + 4; i += 32) rows[i] = x[i];
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, rows + lane * 4 + (planted ? 1 : 0));
  y[lane] = float(r[0] + r[1] + r[2] + r[3]);
}

template <bool planted> __global__ void store_elsewhere(const float* x, float* y) {
  __shared__ __align__(16) float own[kThreads][4];
  store_16_whole(planted ? own[threadIdx.x] : y + threadIdx.x * 4, load_16(x + threadIdx.x * 4));
  __syncthreads();
  if (planted) y[threadIdx.x] = own[threadIdx.x][0];
}

__global__ void copy_all(const float* x, float* y, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += kThreads) y[i] = x[i] + 1;
}

void use_after_free(Cuda where, bool planted, float* x, float* y) {
  auto* block = static_cast<float*>(runtime::allocate_device(kCount * int64_t(sizeof(float))));
  runtime::copy(block, x, kCount * sizeof(float), where);
  if (planted) runtime::free_device(block);
  launch(where, "planted", {1, kThreads}, copy_all, block, y, kCount);
  if (!planted) runtime::free_device(block);
}

void host_memory(Cuda where, bool planted, float* x, float* y) {
  static float host[kCount];
  launch(where, "planted", {1, kThreads}, copy_all, planted ? host : x, y, kCount);
}

void pinned_memory(Cuda where, bool planted, float* x, float* y) {
  auto* pinned = static_cast<float*>(runtime::allocate_pinned(kCount * int64_t(sizeof(float))));
  launch(where, "planted", {1, kThreads}, copy_all, planted ? pinned : x, y, kCount);
  runtime::free_pinned(pinned);
}

}  // namespace

const std::vector<Bug>& address_bugs() {
  static const std::vector<Bug> all{
      {"vector read past the end", "", "out of bounds", BOTH(run_counted, reads_past_end)},
      {"write past the end", nullptr, "out of bounds", BOTH(run_counted, writes_past_end)},
      {"last element left out", "", nullptr, BOTH(run_counted, leaves_last)},
      {"index past a row of static shared memory", "", "index 32 out of bounds", BOTH(run, index_past_row)},
      {"index past dynamic shared memory", "", "out of bounds", BOTH(run, past_dynamic_shared)},
      {"misaligned vector", "misaligned", "misaligned", BOTH(run, misaligned_vector)},
      {"store for device memory to shared memory", "shared memory", "shared memory", BOTH(run, store_elsewhere)},
      {"misaligned element", "", "misaligned", BOTH(run, misaligned_scalar)},
      {"misaligned row for ldmatrix", "multiple of 16", "multiple of 16", BOTH(run_warp, misaligned_ldmatrix)},
      {"use after free", "", "freed block", use_after_free},
      {"memory of the host", "", "memory of the host", host_memory},
      {"pinned memory of the host", "", "memory of the host", pinned_memory},
  };
  return all;
}

}  // namespace libtrain::kernels::planted
