#include "examples/seq2seq/signals.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>

namespace seq2seq {
namespace {

// Handlers may touch nothing but these.
std::atomic<libtrain::TrainLoop*> running_loop = nullptr;
std::atomic<const char*> last_words = "";  // when no loop runs
std::atomic<int64_t> first_stop = 0;       // 256 times the milliseconds at which it came, and the signal; 0: none came
std::atomic<bool> save_asked = false;

/// Nobody may be reading: that stops nothing.
void say(const char* text) {
  const int before = errno;
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) errno = before;
}

int64_t milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

extern "C" void stop_on_signal(int signal) {
  int64_t first = 0;
  const int64_t now = milliseconds();
  if (!first_stop.compare_exchange_strong(first, now * 256 + signal)) {
    if (!is_second_stop({int(first % 256), first / 256}, {signal, now})) return;
    _exit(128 + signal);
  }
  if (libtrain::TrainLoop* loop = running_loop) {
    loop->request_stop();
    return say("\nstopping and saving; a second signal leaves at once, without saving\n");
  }
  say(last_words);
  _exit(128 + signal);
}

constexpr std::array kStops{SIGINT, SIGTERM, SIGHUP};

/// Under nohup a program is to outlive its terminal.
bool is_ignored(int signal) {
  struct sigaction now {};
  return sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

extern "C" void save_on_signal(int) {
  save_asked = true;
  if (libtrain::TrainLoop* loop = running_loop) loop->request_checkpoint();
}

/// The handlers know of the loop for the lifetime of this.
struct RunningLoop {
  explicit RunningLoop(libtrain::TrainLoop& loop) { running_loop = &loop; }
  ~RunningLoop() { running_loop = nullptr; }
};

}  // namespace

bool is_second_stop(const Stop& first, const Stop& next) {
  constexpr int64_t kSameMoment = 200;
  return next.signal != first.signal || next.milliseconds - first.milliseconds >= kSameMoment;
}

SignalScope::SignalScope(const std::string& command)
    : before_("\nstopped before training, with nothing to save. Start again with:\n  " + command + "\n") {
  first_stop = 0;
  save_asked = false;
  last_words = before_.c_str();
  for (const int signal : kStops)
    if (signal != SIGHUP || !is_ignored(SIGHUP)) ::signal(signal, stop_on_signal);
  ::signal(SIGUSR1, save_on_signal);
}

SignalScope::~SignalScope() {
  for (const int signal : kStops)
    if (signal != SIGHUP || !is_ignored(SIGHUP)) ::signal(signal, SIG_DFL);
  ::signal(SIGUSR1, SIG_IGN);  // nothing is left to save
}

bool SignalScope::run(libtrain::TrainLoop& loop, const std::string& command) {
  after_ = "\nstopped after training, which is saved; what was to come are its results. Show them with:\n  " + command +
           "\n";
  const RunningLoop known(loop);
  if (save_asked) loop.request_checkpoint();
  last_words = after_.c_str();
  return loop.run();
}

bool SignalScope::take_save_request() { return save_asked.exchange(false); }

int SignalScope::stopped_by() const { return int(first_stop % 256); }

PipesMayBreak::PipesMayBreak() : before_(::signal(SIGPIPE, SIG_IGN)) {}
PipesMayBreak::~PipesMayBreak() { ::signal(SIGPIPE, before_); }

}  // namespace seq2seq
