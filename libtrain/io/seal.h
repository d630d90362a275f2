/// Text files that notice when any bit of them has changed.
#pragma once
#include <string>
#include <string_view>

namespace libtrain {

/// `object`, a JSON object of at least one member as a text that ends with a closing brace on a line of its own, with one more member at its
/// end: the hash of all that stands before it.
std::string sealed(std::string_view object);

/// Whether `text` is, byte by byte, what sealed() made of what stands in it.
bool is_sealed(std::string_view text);

}  // namespace libtrain
