#include "libtrain/cuda.h"

#include "kernels/cuda/runtime.h"
#include "kernels/gemm.h"
#include "libtrain/tickets.h"

namespace libtrain {
namespace {

namespace runtime = kernels::runtime;

Cuda& innermost_stream() {
  thread_local Cuda stream;
  return stream;
}

// Never destroyed: at the end of a process the driver may be gone before it.
const cuda::Stream& shared_stream() {
  static const cuda::Stream& stream = *new cuda::Stream;
  return stream;
}

/// Memory of the device, zero for what is enqueued on `where` from now on.
void* zeros(int64_t bytes, Cuda where) {
  void* block = runtime::allocate_device(bytes);
  if (!block)
    throw OutOfMemory(
        "[cuda] no memory is left on the device, not even for a stream; close what else uses it, or use smaller "
        "batches");
  runtime::fill_bytes(block, 0, size_t(bytes), where);
  return block;
}

void delete_stream(Cuda where) {
  if constexpr (kBuiltWithCuda) {
    runtime::free_device(where.bad_index);  // waits until the stream is done
    runtime::free_device(where.tickets);
    runtime::destroy_stream(where);
  }
}

Cuda new_stream() {
  return detail::cuda_call([] {
    Cuda where = runtime::create_stream();
    try {
      where.bad_index = static_cast<BadIndex*>(zeros(sizeof(BadIndex), where));
      where.tickets = static_cast<unsigned*>(zeros(kTickets * int64_t(sizeof(unsigned)), where));
    } catch (...) {
      delete_stream(where);
      throw;
    }
    return where;
  });
}

}  // namespace

namespace detail {
unsigned*& active_tickets() {
  thread_local unsigned* tickets = nullptr;
  return tickets;
}

bool& on_side_stream() {
  thread_local bool on_side = false;
  return on_side;
}

unsigned* new_tickets() {
  return cuda_call([] {
    const Cuda where = cuda::current_stream();
    auto* tickets = static_cast<unsigned*>(zeros(2 * kTickets * int64_t(sizeof(unsigned)), where));
    runtime::synchronize(where);  // whatever the stream on which they are used
    return tickets;
  });
}

void throw_no_cuda() { throw DeviceError("[device] this build has no CUDA; configure with -DLIBTRAIN_CUDA=ON"); }
}  // namespace detail

bool cuda_available() {
  if constexpr (!kBuiltWithCuda) return false;
  static const bool available = detail::cuda_call([] { return runtime::device_count(); }) > 0;
  return available;
}

namespace cuda {

Stream::Stream() : handle_(new_stream()) {}
Stream::~Stream() { delete_stream(handle_); }

Cuda current_stream() {
  Cuda where = innermost_stream().stream ? innermost_stream() : shared_stream().handle();
  if (unsigned* tickets = detail::active_tickets()) where.tickets = tickets + (detail::on_side_stream() ? kTickets : 0);
  return where;
}

StreamScope::StreamScope(const Stream& stream) : outer_(innermost_stream()) { innermost_stream() = stream.handle(); }
StreamScope::~StreamScope() { innermost_stream() = outer_; }

Event::Event() : handle_(detail::cuda_call([] { return runtime::create_event().handle; })) {}
Event::~Event() {
  if constexpr (kBuiltWithCuda) runtime::destroy_event({handle_});
}
void Event::record() {
  detail::cuda_call([&] { runtime::record({handle_}, current_stream()); });
}
void Event::wait() const {
  detail::cuda_call([&] { runtime::wait(current_stream(), {handle_}); });
}
bool Event::reached() const {
  return detail::cuda_call([&] { return runtime::reached({handle_}); });
}
void Event::synchronize() const {
  detail::cuda_call([&] { runtime::synchronize(runtime::Event{handle_}); });
}

void synchronize() {
  detail::cuda_call([] { runtime::synchronize(current_stream()); });
}

bool is_capturing() {
  return detail::cuda_call([] { return runtime::is_capturing(current_stream()); });
}

bool executed_on_cpu() {
  return cuda_available() && detail::cuda_call([] { return runtime::device_info().executed_on_cpu; });
}

void allow_tf32(bool allowed) {
  detail::cuda_call([&] { kernels::set_gemm_tf32(allowed); });
}

BadIndex take_bad_index() {
  return detail::cuda_call([] {
    const Cuda where = current_stream();
    BadIndex found;
    runtime::copy(&found, where.bad_index, sizeof found, where);
    runtime::fill_bytes(where.bad_index, 0, sizeof found, where);
    return found;
  });
}

Counters counters() {
  return detail::cuda_call([] {
    const runtime::Counters c = runtime::counters();
    return Counters{c.launches, c.graph_launches, c.host_waits, c.blocking_copies, c.allocations};
  });
}

int64_t thread_launches() {
  return detail::cuda_call([] { return runtime::thread_launches(); });
}

}  // namespace cuda
}  // namespace libtrain
