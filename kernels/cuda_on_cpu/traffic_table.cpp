// The table of traffic.h.
#include <cstdarg>
#include <cstdio>

#include "kernels/cuda_on_cpu/traffic.h"

namespace libtrain::kernels::executor {
namespace {

__attribute__((format(printf, 2, 3))) void append(std::string& text, const char* format, ...) {
  char line[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

double ratio(int64_t part, int64_t whole) { return whole ? double(part) / double(whole) : 1.0; }

void append_lines(std::string& table, const KernelTraffic& kernel) {
  for (const LineTraffic& line : kernel.lines) {
    const bool s = line.shared;
    append(table, "    %-6s %-5s %10lld requests %12lld %s of at least %-12lld %5.2f  %s\n", s ? "shared" : "device",
           line.writes ? "write" : "read", (long long)line.requests, (long long)(s ? line.cycles : line.sectors),
           s ? "cycles " : "sectors", (long long)(s ? line.least_cycles : line.least_sectors),
           s ? ratio(line.cycles, line.least_cycles) : ratio(line.sectors, line.least_sectors), line.line.c_str());
  }
}

}  // namespace

std::string traffic_table(bool with_lines) {
  std::string table;
  append(table, "%-28s %8s %9s %14s %14s %6s %12s %6s\n", "kernel", "launches", "barriers", "requested", "compulsory",
         "ratio", "bank cycles", "ratio");
  for (const KernelTraffic& kernel : traffic()) {
    append(table, "%-28s %8lld %9lld %14lld %14lld %6.2f %12lld %6.2f\n", kernel.name.c_str(),
           (long long)kernel.launches, (long long)kernel.barriers, (long long)kernel.requested(),
           (long long)kernel.compulsory(), ratio(kernel.requested(), kernel.compulsory()),
           (long long)kernel.bank_cycles, ratio(kernel.bank_cycles, kernel.least_bank_cycles));
    if (with_lines) append_lines(table, kernel);
  }
  return table;
}

}  // namespace libtrain::kernels::executor
