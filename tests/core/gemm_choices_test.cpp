// The file that keeps which algorithm which product uses; the timing itself needs a device.
#include "kernels/cuda/gemm_choices.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "catch.h"
#include "data/temporary_file.h"
#include "kernels/failure.h"

namespace libtrain::testing {
namespace {

using kernels::GemmChoices;
using test::slurp;
using test::spill;
namespace fs = std::filesystem;

GemmChoices::Key key_of(int64_t m) { return {14, 0, 68, m, -5, int64_t(1) << 40}; }
GemmChoices::Algorithm algorithm_of(uint64_t id) { return {id, ~uint64_t(0), 0, 7}; }

/// An environment variable, as before when it goes.
struct Variable {
  std::string name, before;
  bool was_set;
  Variable(const char* name, const char* value) : name(name), was_set(std::getenv(name)) {
    if (was_set) before = std::getenv(name);
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { was_set ? setenv(name.c_str(), before.c_str(), 1) : unsetenv(name.c_str()); }
};

bool holds(const GemmChoices& choices, int64_t m, uint64_t id) {
  const auto* found = choices.find(key_of(m));
  return found && *found == algorithm_of(id);
}

}  // namespace

TEST_CASE("gemm choices: what was kept is there in another process, bit by bit", "[gemm_choices]") {
  const test::TemporaryFile place("not a folder");
  const std::string folder = place.folder();
  GemmChoices choices(folder + "/made/for/it", "H200, cuBLASLt 130100");
  CHECK(choices.find(key_of(1)) == nullptr);
  CHECK(choices.keep(key_of(1), algorithm_of(11)) == algorithm_of(11));
  CHECK(choices.keep(key_of(2), algorithm_of(12)) == algorithm_of(12));
  CHECK(choices.failure().empty());
  const GemmChoices again(folder + "/made/for/it", "H200, cuBLASLt 130100");
  CHECK(holds(again, 1, 11));
  CHECK(holds(again, 2, 12));
  CHECK(again.find(key_of(3)) == nullptr);
  CHECK(std::distance(fs::directory_iterator(folder + "/made/for/it"), {}) == 1);  // no draft is left
}

TEST_CASE("gemm choices: of another device or version, none", "[gemm_choices]") {
  const test::TemporaryFile place("not a folder");
  const std::string folder = place.folder();
  GemmChoices choices(folder, "H200, cuBLASLt 130100");
  choices.keep(key_of(1), algorithm_of(11));
  const GemmChoices other(folder, "H200, cuBLASLt 130200");
  CHECK(other.find(key_of(1)) == nullptr);
  fs::copy_file(choices.path(), other.path());  // even under its name
  CHECK(GemmChoices(folder, "H200, cuBLASLt 130200").find(key_of(1)) == nullptr);
}

TEST_CASE("gemm choices: a file with any byte changed or missing is no file, and is written anew", "[gemm_choices]") {
  const test::TemporaryFile place("not a folder");
  const std::string folder = place.folder();
  GemmChoices choices(folder, "device");
  choices.keep(key_of(1), algorithm_of(11));
  choices.keep(key_of(2), algorithm_of(12));
  const std::string sound = slurp(choices.path());
  const auto is_empty = [&] {
    const GemmChoices read(folder, "device");
    return !read.find(key_of(1)) && !read.find(key_of(2));
  };
  REQUIRE(!is_empty());
  size_t taken = 0;
  for (size_t i = 0; i < sound.size(); ++i) {
    spill(choices.path(), sound.substr(0, i));
    taken += !is_empty();
    std::string changed = sound;
    changed[i] ^= 1;
    spill(choices.path(), changed);
    taken += !is_empty();
  }
  CHECK(taken == 0);
  for (const std::string& text : {sound + sound, sound + "x", std::string(1000, '\0'), std::string()}) {
    spill(choices.path(), text);
    CHECK(is_empty());
  }
  GemmChoices anew(folder, "device");
  anew.keep(key_of(3), algorithm_of(13));
  CHECK(holds(GemmChoices(folder, "device"), 3, 13));
}

TEST_CASE("gemm choices: of two processes the first to choose counts, and neither loses the other's",
          "[gemm_choices]") {
  const test::TemporaryFile place("not a folder");
  const std::string folder = place.folder();
  GemmChoices one(folder, "device"), two(folder, "device");
  one.keep(key_of(1), algorithm_of(11));
  CHECK(two.keep(key_of(1), algorithm_of(99)) == algorithm_of(11));
  two.keep(key_of(2), algorithm_of(12));
  one.keep(key_of(3), algorithm_of(13));
  const GemmChoices read(folder, "device");
  CHECK((holds(read, 1, 11) && holds(read, 2, 12) && holds(read, 3, 13)));
}

TEST_CASE("gemm choices: where nothing can be written they are kept in memory, and it says why", "[gemm_choices]") {
  const test::TemporaryFile place("not a folder");
  const std::string folder = place.folder();
  GemmChoices choices(place.path(), "device");
  CHECK(choices.keep(key_of(1), algorithm_of(11)) == algorithm_of(11));
  CHECK(holds(choices, 1, 11));
  CHECK(choices.failure().find(folder) != std::string::npos);
  GemmChoices nowhere("", "device");
  nowhere.keep(key_of(1), algorithm_of(11));
  CHECK(holds(nowhere, 1, 11));
  CHECK(nowhere.failure().empty());
}

TEST_CASE("gemm choices: the folder and the wish come from the environment", "[gemm_choices]") {
  const Variable home("HOME", "/h"), cache("XDG_CACHE_HOME", "/x"), own("LIBTRAIN_CACHE", "/own");
  CHECK(kernels::cache_folder() == "/own");
  {
    const Variable without("LIBTRAIN_CACHE", nullptr);
    CHECK(kernels::cache_folder() == "/x/libtrain");
    const Variable nor("XDG_CACHE_HOME", "");
    CHECK(kernels::cache_folder() == "/h/.cache/libtrain");
    const Variable nothing("HOME", nullptr);
    CHECK(kernels::cache_folder().empty());
  }
  for (const char* no : {static_cast<const char*>(nullptr), "", "0"}) {
    const Variable wish("LIBTRAIN_TUNE_GEMM", no);
    CHECK(!kernels::gemm_tuning_asked_for());
  }
  const Variable wish("LIBTRAIN_TUNE_GEMM", "1");
  CHECK(kernels::gemm_tuning_asked_for());
  const Variable mistake("LIBTRAIN_TUNE_GEMM", "yes");
  CHECK_THROWS_AS(kernels::gemm_tuning_asked_for(), kernels::Failure);
}

}  // namespace libtrain::testing
