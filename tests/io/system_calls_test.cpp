/// Checkpoints saved and loaded while the operating system refuses, interrupts and halves the calls that they rest on.
#include "io/system_calls.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/io/checkpoint_folder.h"
#include "train/run_in_place.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::SystemCalls;
using test::TemporaryFile;
namespace fs = std::filesystem;

std::vector<std::byte> bytes_of(const std::string& path) { return read_file(path, 1 << 24); }

/// A run that has saved after the 2nd and is to save after the 5th, keeping one.
struct Scene : RunInPlace {
  Scene() {
    advance(2);
    save();
    advance(5);
  }
  std::string save() { return save_checkpoint(place.folder(), run.parameters, run.loop.state(), "{}", {.keep = 1}); }
  /// The step of the newest checkpoint that loads.
  int64_t newest() const { return verify_checkpoint(newest_checkpoint(place.folder(), {})).state.steps; }
  std::vector<std::string> calls_of_save() {
    SystemCalls calls(place.folder());
    save();
    return calls.record;
  }
};

bool moves_bytes(const std::string& call) { return call.starts_with("read ") || call.starts_with("write "); }

/// Whether the failure of a call may pass in silence: what is read to decide what to remove, and the end of a file that was not written.
bool is_harmless(const std::string& call) {
  const bool writes = call.find(".tmp/") != call.npos || call.find("latest.tmp") != call.npos;
  return call.starts_with("read ") || (call.starts_with("close ") && !writes) ||
         (call.starts_with("open ") && call.find(".tmp") == call.npos && call != "open .");
}

/// The calls of a save, all of which there must be.
std::vector<std::string> calls_of_save() {
  const auto calls = Scene().calls_of_save();
  for (const char* call : {"mkdir step-00000005.tmp", "open step-00000005.tmp/weights.safetensors",
                           "write step-00000005.tmp/weights.safetensors", "fsync step-00000005.tmp/manifest.json",
                           "close step-00000005.tmp/manifest.json", "fsync step-00000005.tmp", "rename step-00000005",
                           "fsync .", "rename latest", "unlink step-00000002/manifest.json", "rmdir step-00000002"})
    CHECK(std::ranges::find(calls, call) != calls.end());
  return calls;
}

}  // namespace

TEST_CASE("system calls: any of a save may be refused, and nothing is lost", "[io][checkpoint]") {
  const auto saving = calls_of_save();
  Scene calm;
  calm.run.loop.run();
  int64_t survived = 0;
  for (const int error : {ENOSPC, EDQUOT, EIO, EACCES})
    for (int at = 0; at < int(saving.size()); ++at) {
      INFO(std::strerror(error) << " at call " << at << ": " << saving[size_t(at)]);
      Scene scene;
      {
        SystemCalls calls(scene.place.folder());
        calls.fail_at(at, error);
        const std::string message = message_of<IoError>([&] { scene.save(); });
        INFO(message);
        if (message == "no exception") {
          CHECK(is_harmless(saving[size_t(at)]));
        } else {
          CHECK(message.find("[" + scene.place.folder()) == 0);
          CHECK(message.find(std::strerror(error)) != std::string::npos);
          CHECK(message.find("choose another") != std::string::npos);
          if (error == ENOSPC) CHECK(message.find(" free: make room") != std::string::npos);
          if (error == EDQUOT) CHECK(message.find(" bytes to write: make room within your quota") != std::string::npos);
          ++survived;
        }
      }
      CHECK(scene.newest() >= 2);
      for (const auto& entry : fs::directory_iterator(scene.place.folder()))
        CHECK(entry.path().string().find(".tmp-") == std::string::npos);
      scene.advance(6);
      scene.save();
      CHECK(scene.newest() == 6);
      scene.run.loop.run();
      CHECK(scene.run.weights() == calm.run.weights());
    }
  CHECK(survived > 4 * 25);
}

TEST_CASE("system calls: those that are interrupted are made again, and those that do half are gone on with",
          "[io][checkpoint]") {
  const auto saving = calls_of_save();
  Scene calm;
  const std::string expected = calm.save();
  for (const int times : {1, 3, 0})  // 0: halved
    for (int at = 0; at < int(saving.size()); ++at) {
      if (times == 0 && !moves_bytes(saving[size_t(at)])) continue;
      INFO((times ? "interrupted" : "halved") << " at call " << at << ": " << saving[size_t(at)]);
      Scene scene;
      std::vector<std::string> record;
      std::string path;
      {
        SystemCalls calls(scene.place.folder());
        times ? calls.fail_at(at, EINTR, times) : calls.shorten_at(at);
        path = scene.save();
        record = calls.record;
      }
      for (const char* name : kCheckpointFiles) CHECK(bytes_of(path + "/" + name) == bytes_of(expected + "/" + name));
      // A close that was interrupted has closed: made again, it could close another thread's file.
      const bool again = !saving[size_t(at)].starts_with("close ");
      CHECK(record.size() >= saving.size() + size_t(again));
      if (again) CHECK(record[size_t(at) + 1] == saving[size_t(at)]);
    }
}

TEST_CASE(
    "system calls: any read of a load may be interrupted or halved, and one that fails is told and changes nothing",
    "[io][checkpoint]") {
  Scene scene;
  const std::string path = scene.save();
  const auto load = [&](ToyRun& run) { return load_checkpoint(path, run.parameters).state.steps; };
  std::vector<std::string> loading;
  {
    ToyRun fresh(scene.pairs, Scene::kOptions);
    SystemCalls calls(scene.place.folder());
    load(fresh);
    loading = calls.record;
  }
  REQUIRE(std::ranges::count_if(loading, moves_bytes) >= 3);
  for (int at = 0; at < int(loading.size()); ++at) {
    INFO("call " << at << ": " << loading[size_t(at)]);
    for (const bool halved : {false, true}) {
      ToyRun fresh(scene.pairs, Scene::kOptions);
      SystemCalls calls(scene.place.folder());
      halved ? calls.shorten_at(at) : calls.fail_at(at, EINTR, 2);
      CHECK(load(fresh) == 5);
      CHECK(fresh.weights() == scene.run.weights());
    }
    if (loading[size_t(at)].starts_with("close ")) continue;  // of a file that was read, which loses nothing
    for (const int error : {EIO, EACCES, EMFILE}) {
      ToyRun fresh(scene.pairs, Scene::kOptions);
      const auto before = fresh.weights();
      SystemCalls calls(scene.place.folder());
      calls.fail_at(at, error);
      const std::string message = message_of<IoError>([&] { load(fresh); });
      INFO(message);
      CHECK(message.find("[" + path + "/") == 0);
      CHECK(message.find(std::strerror(error)) != std::string::npos);
      CHECK(message.find("; ") != std::string::npos);
      CHECK(fresh.weights() == before);
      calls.fail_at(-1, 0);
      CHECK(load(fresh) == 5);
    }
  }
}

TEST_CASE("system calls: a call may be interrupted a thousand times", "[io]") {
  const TemporaryFile place("");
  SystemCalls calls(place.folder());
  calls.fail_at(1, EINTR, 1000);
  write_file(real_file_system(), place.folder() + "/x", std::as_bytes(std::span("abc", 3)));
  CHECK(calls.record.size() == 1000 + 4);
}

TEST_CASE("text: a signal while a pipe is read loses nothing", "[data]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  struct sigaction act = {}, before = {};
  act.sa_handler = [](int) {};  // without SA_RESTART: calls that wait are interrupted
  sigaction(SIGUSR2, &act, &before);
  const pthread_t reader = pthread_self();
  int64_t written = 0;
  std::thread writer([&] {
    for (const char* part : {"fir", "st\nsec", "ond\n"}) {
      for (int i = 0; i < 20; ++i) {
        pthread_kill(reader, SIGUSR2);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      written += write(ends[1], part, std::strlen(part));
    }
    close(ends[1]);
  });
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(fdopen(ends[0], "r"), &std::fclose);
  std::vector<std::string> lines;
  for_each_text_line(file.get(), "pipe", 100, [&](std::string_view line, int64_t) { lines.emplace_back(line); });
  writer.join();
  CHECK(written == 13);
  sigaction(SIGUSR2, &before, nullptr);
  CHECK(lines == std::vector<std::string>{"first", "second"});
}

}  // namespace libtrain::testing
