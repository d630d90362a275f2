/// What a checkpoint keeps of an optimizer: moments, step state, average and waiting gradients, in one file.
#pragma once
#include <string>

#include "libtrain/parameters.h"
#include "libtrain/tensor_file.h"

namespace libtrain {

/// All of it, under the names of the parameters; with the `gradients` of an accumulation that is not complete.
TensorFile optimizer_state_of(const Parameters& parameters, bool gradients);

/// Where each tensor of such a file goes, checked: throws CheckpointError when it does not fit. Makes the moments that the file has and
/// the store has not.
TensorTargets optimizer_targets(const SafetensorsFile& file, const std::string& path, const Parameters& parameters,
                                bool gradients);

/// To be called after copying: moments that the file has not begin anew, and those go that the store's optimizer does not keep, as in older files,
/// which always have both. When nobody has said whose the moments are, they are now those of the optimizer of that name ("": nobody's).
void settle_moments(const Parameters& parameters, const SafetensorsFile& file, const std::string& optimizer);

}  // namespace libtrain
