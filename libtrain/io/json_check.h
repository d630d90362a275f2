/// JSON from files that anyone may have written.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "libtrain/error.h"

namespace libtrain {

/// Where a text stands, for messages: "[file] field: … at byte 8 of the file".
struct JsonPlace {
  std::string file, field;  // a path, and the name of the part of the file that holds the text
  uint64_t first_byte = 0;  // of the text, counted from the start of the file
};

/// Throws CheckpointError naming file, field and byte unless `text` is one JSON value with objects and arrays nested at most `max_depth`
/// deep, no key twice in an object, and no number beyond f64. A parser alone keeps the last of two equal keys without a word, and code that
/// walks a value by recursion ends with the stack.
void check_json(std::string_view text, int max_depth, const JsonPlace& place);

}  // namespace libtrain
