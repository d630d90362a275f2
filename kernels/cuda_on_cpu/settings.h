/// What the environment and executor.h's setters ask for.
#pragma once
#include <cstdint>

#include "kernels/cuda_on_cpu/executor.h"

namespace libtrain::kernels::executor {

bool eager();
int64_t memory_limit();
/// Called as a library of instrumented kernels is loaded.
void note_instrumented();

}  // namespace libtrain::kernels::executor
