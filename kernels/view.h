/// What both sides of the kernel wall share: plain views, gradient sinks, device tags. Nothing here owns memory.
#pragma once
#include <array>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__  // the one place where the preprocessor asks for CUDA: kernels' formulas serve both sides
#define LIBTRAIN_HOST_DEVICE __host__ __device__
#else
#define LIBTRAIN_HOST_DEVICE
#endif

struct CUstream_st;

namespace libtrain {

struct BadIndex;

/// Non-owning, contiguous, row-major: the only thing a kernel sees. Unused trailing dimensions are 1.
template <class T> struct View {
  T* data = nullptr;
  std::array<int64_t, 4> dims{1, 1, 1, 1};

  int64_t size() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  /// False for an optional argument that was not given.
  explicit operator bool() const { return data != nullptr; }
  /// A view that writes is also a view that reads.
  template <class Const> operator View<Const>() const requires(std::is_same_v<Const, const T>) { return {data, dims}; }
};

/// Where a gradient goes. The first writer of a step overwrites and defines every element, later writers add: no zero-fill pass.
/// An empty sink (data == nullptr) means that nobody wants this gradient.
template <class T> struct Sink {
  T* data = nullptr;
  bool accumulate = false;

  explicit operator bool() const { return data != nullptr; }
};

/// Instruction sets that the CPU kernels are compiled for; each is a type of its own, so no code is shared between them.
/// On machines other than x86-64 only kBaseline exists (which includes NEON on Arm64).
enum class Isa : uint8_t { kBaseline, kAvx2, kAvx512 };

/// Run on the CPU, now, with this instruction set.
template <Isa isa> struct Cpu {};
/// Enqueue on this stream; never allocate, never synchronise.
struct Cuda {
  CUstream_st* stream = nullptr;
  BadIndex* bad_index = nullptr;  // where kernels note an index that the host could not check; on the device, or none
  unsigned* tickets = nullptr;  // [kTickets], on the device: 0 between any two launches of this stream, and no other's
};

/// Blocks of a launch take them in the order in which they finish, so that the last one knows that it is the last.
constexpr int64_t kTickets = 4096;

}  // namespace libtrain
