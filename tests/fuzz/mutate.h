/// Mutations that know how texts are put together, so that most mutants get past the first check that they meet.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/target.h"

namespace libtrain::fuzz {

/// JSON cut into brackets, commas, colons, texts, and numbers or words; spaces are tokens too. Concatenated they are the text again, whatever it is.
std::vector<std::string> json_tokens(std::string_view text);

/// Changes, doubles, moves, nests or removes tokens, or whole values, of JSON. `words` are texts that mean something to the reader.
std::string mutate_json(const std::string& text, const std::vector<std::string>& words, Random& random);

/// Changes lines and fields of text: doubles, removes and swaps them, and inserts what readers stumble over (`words` among it).
std::string mutate_lines(const std::string& text, const std::vector<std::string>& words, Random& random);

/// One of them; empty when there is none.
std::string any_of(const std::vector<std::string>& words, Random& random);

}  // namespace libtrain::fuzz
