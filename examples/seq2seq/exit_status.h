/// What the exit status of seq2seq says: the one place that knows which failure has which number.
#pragma once
#include <array>
#include <exception>
#include <string>

namespace seq2seq {

/// Signals come on top: 129, 130 and 143, when SIGHUP, SIGINT or SIGTERM has stopped the program.
enum class ExitStatus {
  kDone = 0,
  kFault = 1,  ///< of the program itself: an exception that is none of the library's
  kUsage = 2,
  kData = 3,
  kCheckpoint = 4,
  kMemory = 5,
  kDevice = 6,
  kDiverged = 7
};

/// A status and what it means, as --help says it.
struct StatusMeaning {
  ExitStatus status;
  const char* meaning;
};

inline constexpr std::array kStatusMeanings{
    StatusMeaning{ExitStatus::kDone, "done"},
    StatusMeaning{ExitStatus::kFault, "a fault of the program itself; please report it"},
    StatusMeaning{ExitStatus::kUsage, "usage: an option, or options that contradict each other or the run"},
    StatusMeaning{ExitStatus::kData, "data: text that cannot be used, or a file that cannot be read or written"},
    StatusMeaning{ExitStatus::kCheckpoint, "checkpoint: missing, damaged, foreign, or of another model"},
    StatusMeaning{ExitStatus::kMemory, "out of memory"},
    StatusMeaning{ExitStatus::kDevice, "device: missing, not built for, or failing"},
    StatusMeaning{ExitStatus::kDiverged, "diverged: the loss or the gradients are no longer finite"},
};

/// The table above as lines for --help, signals included.
std::string exit_status_help();

/// The status of the exception that is being handled, and what to tell the user. Call it within a catch clause.
struct Failure {
  ExitStatus status;
  std::string message;
};
Failure current_failure();

}  // namespace seq2seq
