/// Streams and events of the runtime, let go with their scope.
#pragma once
#include "kernels/cuda/runtime.h"

namespace libtrain {

struct Stream {
  Cuda where = kernels::runtime::create_stream();
  ~Stream() { kernels::runtime::destroy_stream(where); }
};
struct Event {
  kernels::runtime::Event event = kernels::runtime::create_event();
  ~Event() { kernels::runtime::destroy_event(event); }
  void record(const Stream& on) const { kernels::runtime::record(event, on.where); }
  void hold(const Stream& on) const { kernels::runtime::wait(on.where, event); }
};

}  // namespace libtrain
