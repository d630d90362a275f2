/// A program for compute-sanitizer to look at, on a real device only: `sanitized NAME` runs one planted bug of tests/cuda (those of
/// Hopper left out), `sanitized uninitialized` a kernel on memory that nobody has set, `sanitized clean` all of them without bugs.
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "tests/cuda/planted_bugs.h"

namespace {

namespace planted = libtrain::kernels::planted;
namespace runtime = libtrain::kernels::runtime;

void run(const planted::Bug& bug, bool with_bug, bool set_x = true) {
  const libtrain::Cuda where = runtime::create_stream();
  constexpr size_t kBytes = planted::kCount * sizeof(float);
  auto* x = static_cast<float*>(runtime::allocate_device(kBytes));
  auto* y = static_cast<float*>(runtime::allocate_device(kBytes));
  std::vector<float> values(planted::kCount);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i % 7);
  if (set_x) runtime::copy(x, values.data(), kBytes, where);
  runtime::fill_bytes(y, 0, kBytes, where);
  bug.run(where, with_bug, x, y);
  runtime::synchronize(where);
  runtime::free_device(x);
  runtime::free_device(y);
  runtime::destroy_stream(where);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: sanitized NAME|uninitialized|clean\n"), 2;
  if (!std::strcmp(argv[1], "uninitialized")) return run(planted::bugs().front(), false, false), 0;
  const bool clean = !std::strcmp(argv[1], "clean");
  bool found = clean;
  for (const auto& bugs : {planted::bugs(), planted::address_bugs(), planted::block_bugs()})
    for (const planted::Bug& bug : bugs) {
      if (!clean && std::strcmp(argv[1], bug.name) != 0) continue;
      found = true;
      try {
        run(bug, !clean);
      } catch (const libtrain::kernels::Failure& failure) {
        std::fprintf(stderr, "%s: %s\n", bug.name, failure.what());
      }
    }
  return found ? 0 : 2;
}
