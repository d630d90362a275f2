/// Where in the sources an instruction of a kernel comes from, and what a byte of its static shared memory is called.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace libtrain::kernels::executor {

/// "kernels/cuda/add.cu:20", and how it got there if that line is in an inlined helper. `pc` is a return address. Asks addr2line (of
/// binutils); without it, the library and the offset are named.
std::string source_line(const void* pc);
/// Looks many of them up at once, which takes as long as one.
void look_up_lines(const std::vector<const void*>& pcs);
/// "byte 4 of tile", for an offset into the static shared memory of the library that the address lies in. Asks readelf; "" without it.
std::string static_variable(const void* in_library, size_t offset);

}  // namespace libtrain::kernels::executor
