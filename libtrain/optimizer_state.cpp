#include "libtrain/optimizer_state.h"

#include <algorithm>
#include <iterator>

namespace libtrain {
namespace {

constexpr const char* kMoments[] = {"first_moment/", "second_moment/"};

/// Calls visit(name, tensor) for everything in optimizer.safetensors.
template <class F>
void for_optimizer_state(const Parameters& parameters, int64_t moments, bool gradients, const F& visit) {
  for (const auto& slot : parameters.slots()) {
    for (int64_t i = 0; i < moments; ++i) visit(kMoments[i] + slot.name, parameters.slice(parameters.moment(i), slot));
    if (parameters.options().average) visit("average/" + slot.name, parameters.slice(parameters.average(), slot));
    if (gradients) visit("gradient/" + slot.name, parameters.slice(parameters.gradients(), slot));
  }
  visit("step_state", parameters.step_state());
}

/// Of those that the file has for any parameter.
int64_t moments_in(const SafetensorsFile& file) {
  int64_t moments = 0;
  for (const std::string& name : file.names())
    for (int64_t i = 0; i < std::ssize(kMoments); ++i)
      if (name.starts_with(kMoments[i])) moments = std::max(moments, i + 1);
  return moments;
}

}  // namespace

TensorFile optimizer_state_of(const Parameters& parameters, bool gradients) {
  TensorFile file;
  for_optimizer_state(parameters, parameters.moments(), gradients,
                      [&](const auto& name, const Tensor& tensor) { file.add(name, tensor); });
  return file;
}

TensorTargets optimizer_targets(const SafetensorsFile& file, const std::string& path, const Parameters& parameters,
                                bool gradients) {
  const int64_t moments = moments_in(file), before = parameters.moments();
  if (moments > before) parameters.keep_moments(moments);
  try {
    TensorTargets targets;
    for_optimizer_state(parameters, moments, gradients,
                        [&](const auto& name, const Tensor& tensor) { targets.add(name, tensor); });
    targets.check(file, path, false);
    return targets;
  } catch (...) {
    parameters.keep_moments(before);
    throw;
  }
}

void settle_moments(const Parameters& parameters, const SafetensorsFile& file, const std::string& optimizer) {
  const int64_t loaded = moments_in(file);
  for (int64_t i = loaded; i < parameters.moments(); ++i) parameters.moment(i).fill(0);
  if (parameters.optimizer())
    parameters.keep_moments(parameters.optimizer()->moments);
  else if (!optimizer.empty())
    parameters.set_optimizer({optimizer, loaded});
}

}  // namespace libtrain
