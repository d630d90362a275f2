#include "examples/seq2seq/exit_status.h"

#include <new>

#include "libtrain/error.h"

namespace seq2seq {

std::string exit_status_help() {
  std::string text;
  for (const auto& [status, meaning] : kStatusMeanings)
    text += libtrain::format_message("  {:<10} {}\n", int(status), meaning);
  return text +
         "  130, 143   stopped by SIGINT (Ctrl-C) or SIGTERM, and saved if there was something to save\n"
         "  129        likewise by SIGHUP: the terminal was closed";
}

/// More specific kinds first. A kind of error that is added to the library gets its line here.
Failure current_failure() {
  try {
    throw;
  } catch (const libtrain::InvalidArgument& error) {
    return {ExitStatus::kUsage, error.what()};
  } catch (const libtrain::DataError& error) {
    return {ExitStatus::kData, error.what()};
  } catch (const libtrain::IoError& error) {
    return {ExitStatus::kData, error.what()};
  } catch (const libtrain::CheckpointError& error) {
    return {ExitStatus::kCheckpoint, error.what()};
  } catch (const libtrain::OutOfMemory& error) {
    return {ExitStatus::kMemory, error.what()};
  } catch (const libtrain::DeviceError& error) {
    return {ExitStatus::kDevice, error.what()};
  } catch (const libtrain::Diverged& error) {
    return {ExitStatus::kDiverged, error.what()};
  } catch (const std::bad_alloc&) {
    return {ExitStatus::kMemory, "out of memory; use a smaller model, a smaller --max-length or smaller batches"};
  } catch (const std::exception& error) {
    return {ExitStatus::kFault, libtrain::format_message("{}; this should not happen: please report it", error.what())};
  }
}

}  // namespace seq2seq
