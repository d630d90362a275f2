/// Where in the sources an instruction of a kernel comes from.
#pragma once
#include <string>
#include <vector>

namespace libtrain::kernels::executor {

/// "kernels/cuda/add.cu:20", and how it got there if that line is in an inlined helper. `pc` is a return address. Asks addr2line (of
/// binutils); without it, the library and the offset are named.
std::string source_line(const void* pc);
/// Looks many of them up at once, which takes as long as one.
void look_up_lines(const std::vector<const void*>& pcs);

}  // namespace libtrain::kernels::executor
