/// The same where the executor lets streams get ahead of each other: a wait that is missing is one that some order needs.
#include "kernels/cuda_on_cpu/stream.h"
#include "side_stream.h"

namespace libtrain::testing {

TEST_CASE("side stream: the same bits whichever stream gets on", "[streams]") {
  const SideStreamRun run{.accumulate = 2};
  const SideStreamOutcome off = train_beside(run);
  for (const uint64_t seed : {1, 2}) {
    CAPTURE(seed);
    kernels::executor::set_streams(seed);
    check_beside(run, off);
    kernels::executor::set_streams({});
  }
}

}  // namespace libtrain::testing
