/// Writes to the file LIBTRAIN_MUTANTS_RECORDED, for each test case and each section of its first level, how long it took and which sites of
/// mutants it reached: seconds, case, section, numbers, separated by tabs; and first, a line of all the mutants that were compiled.
#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>

#if __has_include(<catch2/reporters/catch_reporter_event_listener.hpp>)
#include <catch2/catch_test_case_info.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using ListenerBase = Catch::EventListenerBase;
#else
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "catch.h"
using ListenerBase = Catch::TestEventListenerBase;
#endif

namespace {

constexpr int kSites = 65536;

unsigned char* sites() {
  static auto* found = static_cast<unsigned char*>(dlsym(RTLD_DEFAULT, "libtrain_sites"));
  return found;
}

struct Unit {
  double seconds = 0;
  std::set<int> reached;
};

class Recorder : public ListenerBase {
 public:
  using ListenerBase::ListenerBase;

  void testCaseStarting(const Catch::TestCaseInfo& info) override { case_ = info.name; }

  void sectionStarting(const Catch::SectionInfo& info) override {
    if (depth_++ == 0) {
      section_.clear();
      begin_ = std::chrono::steady_clock::now();
      for (int i = 0; path_ && i < kSites; ++i) sites()[i] &= 1;
    } else if (depth_ == 2) {
      section_ = info.name;
    }
  }

  void sectionEnded(const Catch::SectionStats&) override {
    if (--depth_ || !path_) return;
    Unit& unit = units_[{case_, section_}];
    unit.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    for (int i = 0; i < kSites; ++i)
      if (sites()[i] & 2) unit.reached.insert(i);
  }

  void testRunEnded(const Catch::TestRunStats&) override {
    if (!path_) return;
    std::ofstream file(path_);
    for (int i = 0; i < kSites; ++i)
      if (sites()[i] & 1) file << i << ' ';
    for (const auto& [name, unit] : units_) {
      file << '\n' << unit.seconds << '\t' << name.first << '\t' << name.second << '\t';
      for (const int i : unit.reached) file << i << ' ';
    }
  }

 private:
  const char* path_ = std::getenv("LIBTRAIN_MUTANTS_RECORDED");
  int depth_ = 0;
  std::string case_, section_;
  std::chrono::steady_clock::time_point begin_;
  std::map<std::pair<std::string, std::string>, Unit> units_;
};

CATCH_REGISTER_LISTENER(Recorder)

}  // namespace
