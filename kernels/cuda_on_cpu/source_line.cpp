#include "kernels/cuda_on_cpu/source_line.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <vector>

#include "kernels/cuda_on_cpu/scheduler.h"

namespace libtrain::kernels::executor {
namespace {

std::vector<std::string> output_lines(const std::string& command) {
  std::vector<std::string> lines;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return lines;
  std::string line;
  for (int c; (c = std::fgetc(pipe)) != EOF;) {
    if (c != '\n') {
      line += char(c);
      continue;
    }
    lines.push_back(std::move(line));
    line.clear();
  }
  pclose(pipe);
  return lines;
}

/// "/path/kernels/cuda/add.cu:20 (discriminator 3)" as "kernels/cuda/add.cu:20"; nothing if the line is not known.
std::string shortened(const std::string& location) {
  const std::string known = location.substr(0, location.find(" ("));
  const size_t colon = known.rfind(':');
  if (colon == known.npos || known[colon + 1] == '?' || known[colon + 1] == '0') return "";
  const std::string file = known.substr(0, colon);
  return text_of(Site{file.c_str(), std::atoi(known.c_str() + colon + 1)});
}

struct Place {
  const void* pc;
  uintptr_t offset;  // within its library
};
using Lines = std::map<const void*, std::string>;

Lines& known_lines() {
  static Lines known;
  return known;
}

std::string hex(uintptr_t number) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "0x%jx", uintmax_t(number));
  return digits;
}

/// Of the chain of inlined functions, innermost first, what stands in kernels.
void append_to_chain(std::string& chain, const std::string& location) {
  const std::string line = shortened(location);
  if (line.empty() || line.find("kernels/cuda_on_cpu/") == 0 || line[0] == '/') return;
  chain += (chain.empty() ? "" : ", called from ") + line;
}

void look_up(const std::string& library, const std::vector<Place>& places) {
  std::string command = "addr2line -aie '" + library + "'";
  for (const Place& place : places) command += " " + hex(place.offset);
  size_t next = 0;  // addr2line repeats each address, and its lines follow
  for (const std::string& output : output_lines(command + " 2>/dev/null")) {
    if (output.rfind("0x", 0) == 0)
      ++next;
    else if (next >= 1 && next <= places.size())
      append_to_chain(known_lines()[places[next - 1].pc], output);
  }
  for (const Place& place : places)
    if (std::string& line = known_lines()[place.pc]; line.empty())
      line = text(library.substr(library.rfind('/') + 1), "+", hex(place.offset));
}

}  // namespace

void look_up_lines(const std::vector<const void*>& pcs) {
  std::map<std::string, std::vector<Place>> by_library;
  Dl_info info;
  for (const void* pc : pcs)
    if (!known_lines().count(pc) && dladdr(pc, &info))
      by_library[info.dli_fname].push_back(
          {pc, reinterpret_cast<uintptr_t>(pc) - 1 - reinterpret_cast<uintptr_t>(info.dli_fbase)});
  for (const auto& [library, places] : by_library) look_up(library, places);
}

std::string source_line(const void* pc) {
  look_up_lines({pc});
  const auto found = known_lines().find(pc);
  return found == known_lines().end() ? "an unknown line" : found->second;
}

std::string static_variable(const void* in_library, size_t offset) {
  Dl_info info;
  if (!dladdr(in_library, &info)) return "";
  for (const std::string& line : output_lines(text("readelf -sWC '", info.dli_fname, "' 2>/dev/null"))) {
    unsigned long begin = 0, bytes = 0;
    char type[16];
    if (std::sscanf(line.c_str(), " %*[0-9]: %lx %lu %15s", &begin, &bytes, type) != 3 || type != std::string("TLS"))
      continue;
    if (offset - begin < bytes) return text("byte ", offset - begin, " of ", line.substr(line.rfind(':') + 1));
  }
  return "";
}

}  // namespace libtrain::kernels::executor
