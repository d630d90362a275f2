/// What SIGINT, SIGTERM and SIGUSR1 do to a training run, from its first line to its last.
#pragma once
#include <string>

#include "libtrain/train_loop.h"

namespace seq2seq {

/// Holds the handlers for the time of a run; there may be one at a time.
///
/// While the loop runs, the first SIGINT or SIGTERM asks it to stop (run() returns, and the caller saves and reports) and a second one leaves
/// at once; SIGUSR1 asks it to save and to go on. Before and after that there is nothing to save: SIGINT and SIGTERM say how to go on and
/// leave at once with 128 + signal, SIGUSR1 is remembered until the loop runs, or ignored.
class SignalScope {
 public:
  /// `command`: what begins the run.
  explicit SignalScope(const std::string& command);
  ~SignalScope();
  SignalScope(const SignalScope&) = delete;

  /// loop.run(). `command`: what goes on with the run from then on.
  bool run(libtrain::TrainLoop& loop, const std::string& command);
  /// The signal that has stopped the loop, or 0.
  int stopped_by() const;

 private:
  std::string before_, after_;  // what a stop says then
};

}  // namespace seq2seq
