/// How much memory of the host a process could still get. Part of the memory plan, not of what programs use.
#pragma once
#include <cstdint>
#include <string>

namespace libtrain::detail {

/// Bytes: the least of what the kernel says is available without swapping (MemAvailable, proc(5)) and of what the limits of the process's
/// control groups, versions 1 and 2, leave at every level, page cache that can be dropped counted as free; and free swap on top. So it errs to
/// the generous side: address-space limits and what others are about to take do not count. The largest int64_t where nothing can be read.
/// `root` stands before the paths that are read, for tests.
int64_t available_host_memory(const std::string& root = "");

}  // namespace libtrain::detail
