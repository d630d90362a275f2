// Bugs with mbarriers, TMA, wgmma and named barriers, as in planted_bugs.cu.
#include "tests/cuda/hopper_product.cuh"
#include "tests/cuda/planted_bugs.h"

namespace libtrain::kernels::planted {
namespace {

using hopper::From;
using hopper::Product;
using hopper::Slip;

/// Small integers between zeros, as bf16.
const bf16* halves(const float* x) { return reinterpret_cast<const bf16*>(x); }

// ---- The product of hopper_product.cuh -------------------------------------------------------------------------------
constexpr int kK = 128, kTiles = 7;  // the two tiles of K in turn, so that a stage of three gets another each time
using Shared = Product<64, false, From::kShared, 3>;
using UnderWay = Product<64, false, From::kShared, 3, 1, 1>;
using Registers = Product<64, true, From::kRegisters, 3>;

template <Slip slip, class P = Shared, Slip right = Slip::kNone, int tiles = kTiles>
void run(Cuda where, bool planted, float* x, float* y) {
  const auto run = planted ? hopper::run_product<P, slip> : hopper::run_product<P, right>;
  run(where, halves(x), halves(x), y, kK, tiles, kK / 64);
}

/// Of 128 columns in two panels, of which y gets the upper rows.
void wrong_panel(Cuda where, bool planted, float* x, float* y) {
  using Wide = Product<128, true, From::kShared, 2>;
  auto* c = static_cast<float*>(runtime::allocate_device(64 * 128 * int64_t(sizeof(float))));
  const auto run = planted ? hopper::run_product<Wide, Slip::kWrongPanel> : hopper::run_product<Wide>;
  run(where, halves(x), halves(x), c, 64, 1, 1);
  runtime::copy(y, c, kCount * sizeof(float), where);
  runtime::free_device(c);
}

// ---- A product of what the threads have written ----------------------------------------------------------------------
enum class Written {
  kRight,
  kNoProxyFence,
  kFenceBehindBarrier,
  kFenceOfOneLane,
  kNoBarrier,
  kNoSwizzle,
  kEarlyRegisters,
  kLateRegisters,
  kNotInFence,
  kNotInWait,
  kNoWait
};

/// y = a b with a [64, 16] from registers and b [16, 64] from shared memory.
template <Written how> __global__ void written(const bf16* x, float* y) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  const int row = threadIdx.x / 8, piece = threadIdx.x % 8;
  const int place = how == Written::kNoSwizzle ? piece : piece ^ row % 8;
  store_16(shared + row * 128 + place * 16, load_16(x + row * 64 + piece * 8));
  constexpr bool kBehind = how == Written::kFenceBehindBarrier || how == Written::kFenceOfOneLane;
  if (how != Written::kNoProxyFence && !kBehind) ptx::fence_proxy_async();
  if (how != Written::kNoBarrier) __syncthreads();
  if (kBehind && (how != Written::kFenceOfOneLane || threadIdx.x % 32 == 0)) ptx::fence_proxy_async();
  float d[8][4] = {};
  uint32_t a[1][4];
  for (int i = 0; i < 4; ++i) a[0][i] = ptx::pack_bf16(float(threadIdx.x % 3), float(i));
  if (how == Written::kEarlyRegisters) a[0][3] += 1;
  if (how == Written::kNotInFence)
    ptx::wgmma_fence(d);
  else
    ptx::wgmma_fence(d, a);
  if (how == Written::kLateRegisters) a[0][3] += 1;
  ptx::wgmma<64, true>(d, a[0], ptx::wgmma_descriptor_transposed(shared, 2048), true);
  ptx::wgmma_commit();
  if (how == Written::kNotInWait)
    ptx::wgmma_wait<0>();
  else if (how != Written::kNoWait)
    ptx::wgmma_wait<0>(d);
  for (int i = 0; i < 32; ++i) y[threadIdx.x * 32 + i] = d[i / 4][i % 4];
}

template <Written how, Written right = Written::kRight> void run(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, 128, 2048}, planted ? written<how> : written<right>, halves(x), y);
}

// ---- One copy by TMA -------------------------------------------------------------------------------------------------
enum class Load {
  kRight,
  kNoWait,
  kUnwritten,
  kOneOfWarp,
  kMisaligned,
  kPastEnd,
  kNotInitialized,
  kWrittenOver,
  kTwoArrivals,
  kOverwritten,
  kNoBarrier,
  kSourceWritten
};

/// y = 16 rows of 64 elements of x, as 512 floats.
template <Load how> __global__ void load(const __grid_constant__ ptx::TensorMap map, float* x, float* y) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ uint64_t arrived;
  const bool speaks = threadIdx.x == 0;
  if (speaks && how != Load::kNotInitialized) {
    ptx::mbarrier_init(&arrived, 1);
    ptx::mbarrier_fence_init();
  }
  if (how == Load::kOverwritten) shared[threadIdx.x] = 1;
  if (how == Load::kSourceWritten) x[threadIdx.x] = x[threadIdx.x] + 0;
  if (how != Load::kNoBarrier) __syncthreads();
  if (speaks) {
    if (how == Load::kTwoArrivals) ptx::mbarrier_arrive_expect_tx(&arrived, 2048);
    ptx::mbarrier_arrive_expect_tx(&arrived, 2048);
    if (how == Load::kWrittenOver) arrived = 0;
    ptx::tma_load(shared + (how == Load::kMisaligned ? 512 : how == Load::kPastEnd ? 1024 : 0), map, 0, 0, &arrived);
  }
  if (how != Load::kNoWait && (how != Load::kOneOfWarp || speaks)) ptx::mbarrier_wait(&arrived, 0);
  if (how == Load::kUnwritten) __syncthreads();
  const auto* words = reinterpret_cast<const float*>(shared) + (how == Load::kUnwritten ? 32 * 4 : 0);
  for (int i = threadIdx.x; i < 512; i += 64) y[i] = words[i];
}

template <Load how> void run(Cuda where, bool planted, float* x, float* y) {
  const auto map = ptx::tensor_map(x, 16, 64, 64, 16, 64);
  launch(where, "planted", {1, 64, 2560}, planted ? load<how> : load<Load::kRight>, map, x, y);
}

/// Legal: a thread alone reads what has come, and has the next box come to the same place.
__global__ void load_twice(const __grid_constant__ ptx::TensorMap map, float* y) {
  LIBTRAIN_DYNAMIC_SHARED(shared);
  __shared__ uint64_t arrived;
  if (threadIdx.x != 0) return;
  ptx::mbarrier_init(&arrived, 1);
  ptx::mbarrier_fence_init();
  ptx::mbarrier_arrive_expect_tx(&arrived, 2048);
  ptx::tma_load(shared, map, 0, 0, &arrived);
  ptx::mbarrier_wait(&arrived, 0);
  ptx::mbarrier_arrive_expect_tx(&arrived, 2048);
  const float first = *reinterpret_cast<const float*>(shared);
  ptx::tma_load(shared, map, 0, 1, &arrived);
  ptx::mbarrier_wait(&arrived, 1);
  y[0] = first + *reinterpret_cast<const float*>(shared);
}

void twice(Cuda where, bool, float* x, float* y) {
  launch(where, "planted", {1, 32, 2048}, load_twice, ptx::tensor_map(x, 16, 64, 64, 16, 64), y);
}

// ---- Named barriers --------------------------------------------------------------------------------------------------
enum class Named { kRight, kTooFew, kUnequal, kSkipped, kNoEmpty };

/// y = x, passed on by one buffer from the first 64 threads to the others.
template <Named how> __global__ void pass(const float* x, float* y) {
  __shared__ float buffer[64];
  constexpr int kFull = 1, kEmpty = 2, kRounds = 4;
  constexpr int kThreads = how == Named::kTooFew ? 64 : 128;
  const int i = threadIdx.x % 64;
  if (threadIdx.x < 64) {
    for (int round = 0; round < kRounds; ++round) {
      if (round > 0 && how != Named::kNoEmpty) ptx::named_barrier_sync(kEmpty, kThreads);
      buffer[i] = x[round * 64 + i];
      if (how != Named::kSkipped || threadIdx.x < 32)
        ptx::named_barrier_arrive(kFull, how == Named::kUnequal ? 96 : kThreads);
    }
  } else {
    for (int round = 0; round < kRounds; ++round) {
      ptx::named_barrier_sync(kFull, kThreads);
      y[round * 64 + i] = buffer[63 - i];
      if (round + 1 < kRounds && how != Named::kNoEmpty) ptx::named_barrier_arrive(kEmpty, kThreads);
    }
  }
}

template <Named how> void run(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, 128}, planted ? pass<how> : pass<Named::kRight>, x, y);
}

enum class Order { kRight, kSomeMeet, kNoFence };

/// One thread overwrites what others have read, the last of them before there was any sign of a named barrier.
template <Order how> __global__ void overwrite_behind(const float* x, float* y) {
  __shared__ float first;
  if (threadIdx.x == 0) first = x[5];
  __syncthreads();
  const float seen = threadIdx.x < 64 || threadIdx.x == 127 ? first : 0;
  if (how != Order::kSomeMeet || threadIdx.x < 64) ptx::named_barrier_sync(1, how == Order::kSomeMeet ? 64 : 128);
  if (threadIdx.x == 0) first = seen + 1;
  if (threadIdx.x == 0) y[128] = first;
  y[threadIdx.x] = seen;
}

/// The "last block done" of planted_bugs.cu, in blocks that meet at named barriers.
template <Order how> __global__ void last_block_adds(const float* x, float* y) {
  __shared__ bool last;
  auto* done = reinterpret_cast<unsigned*>(y + 1);
  float* partial = y + 2;
  partial[blockIdx.x * 128 + threadIdx.x] = x[blockIdx.x * 128 + threadIdx.x];
  ptx::named_barrier_sync(1, 128);
  if (threadIdx.x == 0) {
    if (how != Order::kNoFence) __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
    __threadfence();
  }
  ptx::named_barrier_sync(2, 128);
  if (!last) return;
  float sum = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x * 128; i += 128) sum += partial[i];
  y[kCount / 2 + threadIdx.x] = sum;
  if (threadIdx.x == 0) *done = 0;
}

void overwrite(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, 128}, planted ? overwrite_behind<Order::kSomeMeet> : overwrite_behind<Order::kRight>, x,
         y);
}
void last_block(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {4, 128}, planted ? last_block_adds<Order::kNoFence> : last_block_adds<Order::kRight>, x, y);
}

template <bool planted> __global__ void too_many_registers(const float* x, float* y) {
  ptx::setmaxnreg_inc<planted ? 240 : 160>();
  y[threadIdx.x] = x[threadIdx.x];
}

void registers(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, 384}, planted ? too_many_registers<true> : too_many_registers<false>, x, y);
}

}  // namespace

/// Of what g++ alone instruments: clang leaves out elements of local arrays.
constexpr const char* in_registers(const char* message) {
#ifdef __clang__
  return static_cast<void>(message), nullptr;
#else
  return message;
#endif
}

const std::vector<Bug>& hopper_bugs() {
  static const std::vector<Bug> all{
      {"missing wait for the copies", "more arrivals", "race: |has not written", run<Slip::kNoFullWait>},
      {"wait for the wrong parity", "more arrivals", "race: |has not written", run<Slip::kWrongParity>},
      {"missing wait for the empty stage", "more arrivals", "more arrivals", run<Slip::kNoEmptyWait>},
      {"stage given back before its product is done", "", "race: ", run<Slip::kEmptyBeforeWait, UnderWay>},
      {"stage given back with its product under way", "", "race: ", run<Slip::kGivenBackUnderWay, UnderWay>},
      {"missing proxy fence behind a patch of A", nullptr, "without fence_proxy_async",
       run<Slip::kPatchedWithoutFence, Shared, Slip::kPatched, 2>},
      {"missing wait for the product", "", "race: ", run<Slip::kNoProductWait>},
      {"missing wgmma_fence", "no wgmma_fence", "no wgmma_fence", run<Slip::kNoProductFence>},
      {"too few bytes announced", "under way|deadlock", "race: ", run<Slip::kFewBytes>},
      {"too many bytes announced", "lacks 0 of 1 arrivals and 16 bytes", "lacks 0 of 1 arrivals and 16 bytes",
       run<Slip::kManyBytes>},
      {"missing mbarrier_fence_init", nullptr, "no mbarrier_fence_init", run<Slip::kNoInitFence>},
      {"accumulator written before the wait", "has written to an accumulator", "wgmma under way", run<Slip::kTouched>},
      {"accumulator read before the wait", "", in_registers("wgmma under way"), run<Slip::kRead>},
      {"operand that begins within the swizzle", "first row of a swizzle", "first row of a swizzle",
       run<Slip::kRowInPattern>},
      {"operand 16 columns off", "", nullptr, run<Slip::kNextColumns>},
      {"panels at the wrong distance", "", nullptr, wrong_panel},
      {"descriptors that differ within the warpgroup", "in different calls", "in different calls",
       run<Slip::kOtherThreads>},
      {"one lane speaks for a warp that has not met", nullptr, "race: ", run<Slip::kNoWarpSync, Registers>},
      {"one lane waits for a warp that has not met", nullptr, "race: |has not written", run<Slip::kOneLaneWaits>},
      {"stage that one warp of four has not given back", "", "race: ", run<Slip::kThreeWarps>},
      {"missing proxy fence", nullptr, "without fence_proxy_async", run<Written::kNoProxyFence>},
      {"proxy fence behind the barrier (legal)", nullptr, nullptr, run<Written::kFenceBehindBarrier>},
      {"proxy fence of one lane behind the barrier", nullptr, "without fence_proxy_async",
       run<Written::kFenceOfOneLane>},
      {"missing barrier before a product", nullptr, "race: |has not written", run<Written::kNoBarrier>},
      {"tile written without the swizzle", "", nullptr, run<Written::kNoSwizzle>},
      {"register of A written behind the fence", nullptr, in_registers("between wgmma_fence"),
       run<Written::kLateRegisters, Written::kEarlyRegisters>},
      {"registers that the fence does not name", "last wgmma_fence", "last wgmma_fence", run<Written::kNotInFence>},
      {"accumulators that the wait does not name", "among its arguments", "among its arguments",
       run<Written::kNotInWait>},
      {"return with a wgmma under way", "wgmma under way", "wgmma under way", run<Written::kNoWait>},
      {"end with a copy under way", "under way", "race: |has not written", run<Load::kNoWait>},
      {"read past what a copy has brought", "", "has not written", run<Load::kUnwritten>},
      {"one thread waits for all", "", "race: |has not written", run<Load::kOneOfWarp>},
      {"copy to a misaligned place", "multiple of 1024", "multiple of 1024", run<Load::kMisaligned>},
      {"copy past shared memory", "not in dynamic shared memory", "not in dynamic shared memory", run<Load::kPastEnd>},
      {"mbarrier that nobody has initialized", "not been initialized", "not been initialized",
       run<Load::kNotInitialized>},
      {"mbarrier that has been written over", "has been written over",
       "has been written over|race: ", run<Load::kWrittenOver>},
      {"mbarrier used before all know of it", "not been initialized",
       "not been initialized|race: ", run<Load::kNoBarrier>},
      {"one arrival too many", "more arrivals", "more arrivals", run<Load::kTwoArrivals>},
      {"copy over what threads have written", nullptr, "without fence_proxy_async", run<Load::kOverwritten>},
      {"copy of what threads have just written", nullptr, "without fence_proxy_async", run<Load::kSourceWritten>},
      {"two copies to one place, by a thread alone (legal)", nullptr, nullptr, twice},
      {"named barrier with too few threads", "", "race: |has not written|a second time", run<Named::kTooFew>},
      {"named barrier of two sizes", "it is one of", "it is one of|race: ", run<Named::kUnequal>},
      {"named barrier that a warp skips", "named barrier 1, which 96 of 128", "named barrier 1, which 96 of 128",
       run<Named::kSkipped>},
      {"missing named barrier before a buffer is filled again", "a second time",
       "a second time|race: ", run<Named::kNoEmpty>},
      {"overwritten when only some readers have met", nullptr, "race: ", overwrite},
      {"last block done without a fence, by named barriers", nullptr, "another block", last_block},
      {"more registers than there are", "registers together", "registers together", registers},
  };
  return all;
}

}  // namespace libtrain::kernels::planted
