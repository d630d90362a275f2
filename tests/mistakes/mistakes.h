/// The table of planted mistakes: what a program does wrong, and what it must be told.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "libtrain/libtrain.h"

namespace libtrain::testing {

enum class Kind { kInvalidArgument, kDataError, kCheckpointError, kIoError, kDeviceError, kOutOfMemory };

/// A row. Its message must be one of `kind` and hold the three texts, each at a place of its own: what was given, where (behind which name), and
/// what to do about it.
struct Mistake {
  const char* name;
  Kind kind;
  std::string what, where, remedy;
  std::function<void()> make;
};

/// What is wrong with the answer to a mistake; "" when nothing is.
std::string fault_of(const Mistake& mistake);

/// The packing of sequences of these lengths.
inline Packing packing_of(std::initializer_list<int64_t> lengths) {
  return make_packing(std::vector<int64_t>(lengths));
}

// The rows, by subject.
std::vector<Mistake> tensor_mistakes();
std::vector<Mistake> op_mistakes();
std::vector<Mistake> sequence_mistakes();
std::vector<Mistake> sequence_op_mistakes();
std::vector<Mistake> training_mistakes();
std::vector<Mistake> file_mistakes();

}  // namespace libtrain::testing
