/// What the environment and executor.h's setters ask for.
#pragma once
#include <cstdint>
#include <optional>

#include "kernels/cuda_on_cpu/executor.h"

namespace libtrain::kernels::executor {

bool eager();
int64_t memory_limit();
/// What set_streams() was given, were it called at the start.
std::optional<uint64_t> streams_from_environment();
/// Called by each library of instrumented kernels as it is loaded, with an address of its own.
void note_instrumented(const void* address);
/// Whether the library that the address belongs to is one of them.
bool is_instrumented(const void* address);

}  // namespace libtrain::kernels::executor
