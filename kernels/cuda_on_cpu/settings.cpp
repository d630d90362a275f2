#include "kernels/cuda_on_cpu/settings.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>

#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/stream.h"
#include "kernels/failure.h"

namespace libtrain::kernels::executor {
namespace {

std::string from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

[[noreturn]] void refuse(const char* name, const std::string& value, const char* expected) {
  throw Failure(std::string("environment variable ") + name + " is '" + value + "'; expected " + expected);
}

uint64_t number(const char* name, const std::string& value, const char* expected) {
  char* end = nullptr;
  const uint64_t result = std::strtoull(value.c_str(), &end, 10);
  if (value.empty() || *end) refuse(name, value, expected);
  return result;
}

Order order_from_environment() {
  const char* name = "LIBTRAIN_CUDA_ORDER";
  const char* expected = "forward, reverse, random or random:SEED";
  const std::string value = from_environment(name, "forward");
  if (value == "forward") return {Order::kForward, 0};
  if (value == "reverse") return {Order::kReverse, 0};
  if (value == "random") return {Order::kRandom, 1};
  if (value.rfind("random:", 0) == 0) return {Order::kRandom, number(name, value.substr(7), expected)};
  refuse(name, value, expected);
}

Observer observer_from_environment() {
  const char* name = "LIBTRAIN_CUDA_OBSERVER";
  const std::string value = from_environment(name, "race");
  if (value == "none") return Observer::none;
  if (value == "race") return Observer::race;
  if (value == "traffic") return Observer::traffic;
  refuse(name, value, "none, race or traffic");
}

int64_t memory_from_environment() {
  const std::string value = from_environment("LIBTRAIN_CUDA_MEMORY", "4096");
  return std::min(int64_t(number("LIBTRAIN_CUDA_MEMORY", value, "a number of MiB")) << 20, int64_t(kArenaBytes));
}

struct Settings {
  Order order = order_from_environment();
  Observer observer = observer_from_environment();
  bool eager = from_environment("LIBTRAIN_CUDA_EAGER", "0") != "0";
  int64_t memory = memory_from_environment();
};
/// Read when first asked for, so that a mistake in the environment is an exception of the caller's.
Settings& settings() {
  static Settings all;
  return all;
}

/// Where instrumented libraries begin. Filled before main, or by dlopen.
std::set<const void*>& instrumented_libraries() {
  static std::set<const void*> all;
  return all;
}

const void* library_of(const void* address) {
  Dl_info info;
  return dladdr(address, &info) ? info.dli_fbase : nullptr;
}

}  // namespace

Order order() { return settings().order; }
void set_order(Order order) { settings().order = order; }
Observer observer() { return settings().observer; }
void set_observer(Observer observer) { settings().observer = observer; }
bool eager() { return settings().eager; }
void set_eager(bool eager) { settings().eager = eager; }
int64_t memory_limit() { return settings().memory; }
void set_memory(int64_t bytes) { settings().memory = std::min(bytes, int64_t(kArenaBytes)); }

std::optional<uint64_t> streams_from_environment() {
  const char* name = "LIBTRAIN_CUDA_STREAMS";
  const char* expected = "late, random or random:SEED";
  const std::string value = from_environment(name, "late");
  if (value == "late") return std::nullopt;
  if (value == "random") return 1;
  if (value.rfind("random:", 0) == 0) return number(name, value.substr(7), expected);
  refuse(name, value, expected);
}

bool instrumented() { return !instrumented_libraries().empty(); }
void note_instrumented(const void* address) {
  const std::lock_guard lock(mutex());
  instrumented_libraries().insert(library_of(address));
}
bool is_instrumented(const void* address) { return instrumented_libraries().count(library_of(address)) > 0; }

}  // namespace libtrain::kernels::executor
