#include "examples/seq2seq/signals.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace seq2seq {
namespace {

// Handlers may touch nothing but these.
std::atomic<libtrain::TrainLoop*> running_loop = nullptr;
std::atomic<const char*> last_words = "";  // when no loop runs
std::atomic<int> stop_signal = 0;
std::atomic<bool> save_asked = false;

/// Nobody may be reading: that stops nothing.
void say(const char* text) {
  const int before = errno;
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) errno = before;
}

extern "C" void stop_on_signal(int signal) {
  if (stop_signal.exchange(signal)) _exit(128 + signal);
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

SignalScope::SignalScope(const std::string& command)
    : before_("\nstopped before training, with nothing to save. Start again with:\n  " + command + "\n") {
  stop_signal = 0;
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

int SignalScope::stopped_by() const { return stop_signal; }

PipesMayBreak::PipesMayBreak() : before_(::signal(SIGPIPE, SIG_IGN)) {}
PipesMayBreak::~PipesMayBreak() { ::signal(SIGPIPE, before_); }

}  // namespace seq2seq
