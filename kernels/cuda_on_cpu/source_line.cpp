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

/// Of the chain of inlined functions, innermost first, what stands in kernels.
std::string look_up(const std::string& library, uintptr_t offset) {
  std::string chain;
  char number[32];
  std::snprintf(number, sizeof number, "0x%jx", uintmax_t(offset));
  for (const std::string& location : output_lines("addr2line -ie '" + library + "' " + number + " 2>/dev/null")) {
    const std::string line = shortened(location);
    if (line.empty() || line.find("kernels/cuda_on_cpu/") == 0 || line[0] == '/') continue;
    chain += (chain.empty() ? "" : ", called from ") + line;
  }
  return chain.empty() ? text(library.substr(library.rfind('/') + 1), "+", number) : chain;
}

}  // namespace

std::string source_line(const void* pc) {
  static std::map<const void*, std::string> known;
  Dl_info info;
  if (!pc || !dladdr(pc, &info)) return "an unknown line";
  std::string& line = known[pc];
  if (line.empty())
    line = look_up(info.dli_fname, reinterpret_cast<uintptr_t>(pc) - 1 - reinterpret_cast<uintptr_t>(info.dli_fbase));
  return line;
}

}  // namespace libtrain::kernels::executor
