/// What SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGPIPE do to a training run, from its first line to its last.
#pragma once
#include <cstdint>
#include <string>

#include "libtrain/train_loop.h"

namespace seq2seq {

/// A signal to stop, and when it came.
struct Stop {
  int signal;
  int64_t milliseconds;
};
/// Whether `next` is a second one: not the same again within 0.2 s, for timeout(1) sends its signal to the process, then to its group.
bool is_second_stop(const Stop& first, const Stop& next);

/// Holds the handlers for the time of a run; there may be one at a time.
///
/// While the loop runs, the first SIGINT, SIGTERM or SIGHUP (the terminal is gone) asks it to stop (run() returns, and the caller saves and
/// reports) and a second one leaves at once (is_second_stop). SIGUSR1 asks it
/// to save and to go on. Before and after that there is nothing to save: the first three say how to go on and leave at once with 128 + signal,
/// SIGUSR1 is remembered until the loop runs, or ignored. A SIGHUP that was ignored at the start, as under nohup, stays ignored.
class SignalScope {
 public:
  /// `command`: what begins the run.
  explicit SignalScope(const std::string& command);
  ~SignalScope();
  SignalScope(const SignalScope&) = delete;

  /// loop.run(). `command`: what goes on with the run from then on.
  bool run(libtrain::TrainLoop& loop, const std::string& command);
  /// Whether SIGUSR1 has come since this was last asked.
  bool take_save_request();
  /// The signal that has stopped the loop, or 0.
  int stopped_by() const;

 private:
  std::string before_, after_;  // what a stop says then
};

/// While it lives, writing to a pipe that nobody reads any more fails, and does not end the program: for what is written to stderr beside the
/// work. Results on stdout are not to be written meanwhile, so that `| head` ends the program as it does others.
class PipesMayBreak {
 public:
  PipesMayBreak();
  ~PipesMayBreak();
  PipesMayBreak(const PipesMayBreak&) = delete;

 private:
  void (*before_)(int);  // what SIGPIPE did
};

}  // namespace seq2seq
