/// Runs the blocks of a launch, one after another, and the threads of a block as fibers.
#pragma once
#include <sstream>
#include <string>

#include "kernels/cuda_on_cpu/executor.h"
#include "kernels/cuda_on_cpu/thread_state.h"

namespace libtrain::kernels::executor {

/// Runs it to its end on the calling thread. Throws Failure.
void run_launch(const Launch& launch);

/// Gives the host thread to other threads of the block until one of them makes this one ready.
void wait_as(State state, Site site);

/// What the arguments print, one behind the other.
template <class... Parts> std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}
std::string text_of(Site site);
std::string text_of(uint3 index);

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Random {
  uint64_t state;
  uint64_t next();
  size_t below(size_t limit) { return size_t(next() % limit); }
};

}  // namespace libtrain::kernels::executor
