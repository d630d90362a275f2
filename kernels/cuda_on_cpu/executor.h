/// Executes CUDA kernels on the CPU: every CUDA thread is a fiber, blocks run one after another on the host thread that waits for
/// them. This header is what the vocabulary of kernels and tests need of it; docs/kernels.md tells how it works and what it finds.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda_on_cpu/vector_types.h"
#include "kernels/view.h"

namespace libtrain::kernels::executor {

/// In which order warps, the lanes of a warp and blocks run: a kernel without races computes the same in each. From the
/// environment, LIBTRAIN_CUDA_ORDER=forward|reverse|random:SEED, until set.
struct Order {
  enum Kind : uint8_t { kForward, kReverse, kRandom };
  Kind kind = kForward;
  uint64_t seed = 1;
};
Order order();
void set_order(Order order);

/// What is made of the memory accesses of instrumented kernels. From the environment, LIBTRAIN_CUDA_OBSERVER=none|race|traffic
/// (race when unset), until set. Kernels that were compiled without instrumentation are not observed.
enum class Observer : uint8_t { none, race, traffic };
Observer observer();
void set_observer(Observer observer);
/// Whether a library of instrumented kernels has been loaded.
bool instrumented();

/// Runs everything at once instead of when the host waits: for debugging. LIBTRAIN_CUDA_EAGER=1.
void set_eager(bool eager);
/// Bytes that may be allocated at a time. LIBTRAIN_CUDA_MEMORY, in MiB; never more than the arena of 4 GiB.
void set_memory(int64_t bytes);

/// A kernel with its arguments. `name` is a literal.
struct Launch {
  const char* name;
  const void* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  std::shared_ptr<const void> arguments;
  size_t argument_bytes;
  void (*body)(const void* arguments);  // of one thread
};
/// Throws Failure for a shape that no device takes.
void enqueue_launch(Cuda where, Launch launch);

/// Enqueues a function of the host, as a library kernel would be: it counts as one launch, reads and writes so many bytes of the
/// device's memory, and may throw Failure. `name` is a literal.
struct LibraryKernel {
  const char* name;
  int64_t bytes_read = 0, bytes_written = 0;
};
void enqueue(Cuda where, LibraryKernel kernel, std::function<void()> work);
/// Throws Failure unless all bytes lie in one live block of the device.
void check_range(const void* begin, int64_t bytes, const char* what);

}  // namespace libtrain::kernels::executor
