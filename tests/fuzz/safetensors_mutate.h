/// Mutants of safetensors files.
#pragma once
#include <string>

#include "fuzz/target.h"

namespace libtrain::fuzz {

/// A valid file of up to six small tensors.
std::string new_safetensors(Random& random);

/// Mostly with a header of the length that it says, so that what is in it is looked at.
std::string mutate_safetensors(const std::string& file, Random& random);

}  // namespace libtrain::fuzz
