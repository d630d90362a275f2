// The runtime of kernels that are executed on the CPU: streams that put work off, memory, failures, counters.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "tests/cuda/device_array.h"
#include "tests/cuda/streams.h"
#include "tests/cuda/toy_kernels.h"

using namespace libtrain;
using namespace libtrain::kernels;
using Catch::Matchers::Contains;

namespace {

/// Pinned floats.
struct Pinned {
  float* data;
  explicit Pinned(int64_t count, float value = 0)
      : data(static_cast<float*>(runtime::allocate_pinned(count * int64_t(sizeof(float))))) {
    std::fill(data, data + count, value);
  }
  ~Pinned() { runtime::free_pinned(data); }
};

constexpr size_t kBytes = 64 * sizeof(float);

void doubled(Cuda where, const DeviceArray<float>& x, const DeviceArray<float>& y) {
  toy::doubled(where, x.data(), y.data(), x.size(), 1, 32);
}

}  // namespace

TEST_CASE("executor: nothing runs before the host waits", "[executor]") {
  const Stream s;
  const DeviceArray<float> x(numbers(64)), y(64);
  const Pinned result(64);
  doubled(s.where, x, y);
  runtime::copy(result.data, y.data(), kBytes, s.where);
  CHECK(std::isnan(result.data[3]));  // read before having waited
  runtime::synchronize(s.where);
  CHECK(result.data[3] == 6);
}

TEST_CASE("executor: a pinned source that is overwritten before the copy has run is seen", "[executor]") {
  const Stream s;
  const DeviceArray<float> x(64);
  const Pinned source(64, 1);
  runtime::copy(x.data(), source.data, kBytes, s.where);
  source.data[0] = 5;
  CHECK(x.values(s.where)[0] == 5);
}

TEST_CASE("executor: one pinned buffer may go up and come back in a stream", "[executor]") {
  const Stream s;
  const DeviceArray<float> x(64);
  const Pinned buffer(64, 7);
  runtime::copy(x.data(), buffer.data, kBytes, s.where);
  runtime::copy(buffer.data, x.data(), kBytes, s.where);
  runtime::synchronize(s.where);
  CHECK(buffer.data[9] == 7);
}

TEST_CASE("executor: events order streams, and a forgotten one shows", "[executor]") {
  const Stream producer, consumer;
  const Event ready;
  const DeviceArray<float> x(numbers(64)), y(64), z(64);
  SECTION("with the wait") {
    doubled(producer.where, x, y);
    runtime::record(ready.event, producer.where);
    runtime::wait(consumer.where, ready.event);
    doubled(consumer.where, y, z);
    CHECK(z.values(consumer.where)[5] == 20);
  }
  SECTION("without") {
    doubled(producer.where, x, y);
    doubled(consumer.where, y, z);
    CHECK(std::isnan(z.values(consumer.where)[5]));
  }
  SECTION("the wait is for the point that was recorded last before it") {
    doubled(producer.where, x, y);
    runtime::record(ready.event, producer.where);
    runtime::wait(consumer.where, ready.event);
    runtime::record(ready.event, consumer.where);  // of no concern to the wait
    doubled(consumer.where, y, z);
    CHECK(z.values(consumer.where)[5] == 20);
  }
  SECTION("an event that was never recorded holds nobody") {
    runtime::wait(consumer.where, ready.event);
    doubled(consumer.where, x, z);
    CHECK(z.values(consumer.where)[5] == 10);
    CHECK(runtime::reached(ready.event));
  }
}

TEST_CASE("executor: polling an event ends", "[executor]") {
  const Stream s;
  const Event done;
  const DeviceArray<float> x(numbers(64)), y(64);
  for (int i = 0; i < 100; ++i) doubled(s.where, x, y);
  runtime::record(done.event, s.where);
  CHECK_FALSE(runtime::reached(done.event));
  int polls = 0;
  while (!runtime::reached(done.event)) REQUIRE(++polls < 100);
}

TEST_CASE("executor: waiting for an event leaves later work in the queue", "[executor]") {
  const Stream s;
  const Event half;
  const DeviceArray<float> x(numbers(64)), y(64);
  const Pinned before(64), after(64);
  doubled(s.where, x, y);
  runtime::copy(before.data, y.data(), kBytes, s.where);
  runtime::record(half.event, s.where);
  runtime::copy(after.data, y.data(), kBytes, s.where);
  runtime::synchronize(half.event);
  CHECK(before.data[2] == 4);
  CHECK(std::isnan(after.data[2]));
}

TEST_CASE("executor: in eager mode the result is there at once", "[executor]") {
  const DeviceArray<float> x(numbers(64)), y(64);
  const Pinned result(64);
  executor::set_eager(true);
  doubled({}, x, y);
  runtime::copy(result.data, y.data(), kBytes, {});
  executor::set_eager(false);
  CHECK(result.data[1] == 2);
}

TEST_CASE("executor: memory is NaN when allocated and when freed", "[executor]") {
  const DeviceArray<float> fresh(100);
  for (const float value : fresh.values()) REQUIRE(std::isnan(value));
  auto* block = static_cast<float*>(runtime::allocate_device(16));
  CHECK(reinterpret_cast<uintptr_t>(block) % 256 == 0);
  runtime::fill_bytes(block, 0, 16, {});
  runtime::free_device(block);
  CHECK(std::isnan(block[0]));  // the arena is host memory
}

TEST_CASE("executor: memory is limited, counted and given back", "[executor]") {
  const int64_t before = runtime::free_bytes();
  CHECK(runtime::allocate_device(int64_t(1) << 60) == nullptr);
  {
    const DeviceArray<float> some(1000);
    CHECK(runtime::free_bytes() == before - 4000);
  }
  CHECK(runtime::free_bytes() == before);
  for (int i = 0; i < 200; ++i) {  // more in sum than the arena has
    void* block = runtime::allocate_device(int64_t(48) << 20);
    REQUIRE(block);
    runtime::free_device(block);
  }
  executor::set_memory(1 << 20);
  CHECK(runtime::allocate_device(2 << 20) == nullptr);
  executor::set_memory(int64_t(4) << 30);
}

TEST_CASE("executor: copies and fills outside of a live block are refused", "[executor]") {
  const DeviceArray<float> x(64);
  float host[65] = {};
  CHECK_THROWS_WITH(runtime::copy(x.data(), host, kBytes + 4, {}), Contains("260 bytes") && Contains("copy to"));
  CHECK_THROWS_WITH(runtime::copy(host, x.data() + 1, kBytes, {}), Contains("byte 4 of a block of 256 bytes"));
  CHECK_THROWS_WITH(runtime::fill_bytes(x.data(), 0, 257, {}), Contains("fill_bytes"));
  CHECK_THROWS_WITH(runtime::fill_bytes(host, 0, 4, {}), Contains("not in the memory of the device"));
  void* block = runtime::allocate_device(64);
  runtime::free_device(block);
  CHECK_THROWS_WITH(runtime::copy(host, block, 64, {}), Contains("freed block of 64 bytes"));
  runtime::free_device(block);
  CHECK_THROWS_WITH(runtime::synchronize(Cuda{}), Contains("free_device"));
}

TEST_CASE("executor: launches that no device takes are refused at once", "[executor]") {
  const DeviceArray<float> x(64), y(64);
  CHECK_THROWS_WITH(toy::doubled({}, x.data(), y.data(), 64, 1, 1025), Contains("[doubled]") && Contains("(1025,1,1)"));
  CHECK_THROWS_AS(toy::doubled({}, x.data(), y.data(), 64, 1, 0), Failure);
  CHECK_THROWS_AS(toy::doubled({}, x.data(), y.data(), 64, 1, 32, 65536), Failure);
  CHECK_THROWS_AS(toy::large_shared({}, y.data(), 227 * 256 + 1), Failure);
  toy::doubled({}, x.data(), y.data(), 64, 0, 32);  // nothing to do
  runtime::synchronize(Cuda{});
}

TEST_CASE("executor: what is enqueued from the host runs in its turn", "[executor]") {
  const Stream s;
  const DeviceArray<float> x(numbers(64)), y(64);
  float seen = 0;
  doubled(s.where, x, y);
  executor::enqueue(s.where, {"look"}, [&] { seen = y.data()[4]; });
  doubled(s.where, y, x);
  runtime::synchronize(s.where);
  CHECK(seen == 8);
  CHECK(x.values()[4] == 16);
}

TEST_CASE("executor: a failure drops the queue, is thrown once, and leaves the process usable", "[executor]") {
  const Stream s;
  const Event after;
  const DeviceArray<float> x(numbers(64)), y(64);
  executor::enqueue(s.where, {"broken"}, [] { throw Failure("[broken] on purpose"); });
  doubled(s.where, x, y);
  runtime::record(after.event, s.where);
  CHECK_THROWS_WITH(runtime::synchronize(s.where), "[broken] on purpose");
  CHECK(runtime::reached(after.event));
  CHECK(std::isnan(y.values()[1]));
  doubled(s.where, x, y);
  CHECK(y.values(s.where)[1] == 2);
}

TEST_CASE("executor: what the host asks for is counted", "[executor]") {
  const DeviceArray<float> x(numbers(64)), y(64);
  const Pinned pinned(64);
  const auto before = runtime::counters();
  doubled({}, x, y);
  doubled({}, x, y);
  runtime::copy(pinned.data, y.data(), kBytes, {});
  runtime::synchronize(Cuda{});
  y.values();
  runtime::free_device(runtime::allocate_device(8));
  const auto after = runtime::counters();
  CHECK(after.launches - before.launches == 2);
  CHECK(after.host_waits - before.host_waits == 1);
  CHECK(after.blocking_copies - before.blocking_copies == 1);
  CHECK(after.allocations - before.allocations == 1);
}

TEST_CASE("executor: the device says what it is", "[executor]") {
  CHECK(runtime::device_count() == 1);
  CHECK(runtime::device_info().name == "CUDA kernels executed on the CPU");
  CHECK(runtime::device_info().capability == 90);
  CHECK(runtime::multiprocessors() == 3);
}

TEST_CASE("executor: several host threads may launch and wait", "[executor]") {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&wrong, t] {
      const Stream s;
      const DeviceArray<float> x(numbers(256, float(t))), y(256);
      for (int i = 0; i < 20; ++i) {
        toy::block_sums(s.where, x.data(), y.data(), 2);
        wrong[t] += y.values(s.where)[200] != 128.0f * float(t + 128) + 127 * 64;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("executor: one host thread may check ranges while another allocates and frees", "[executor]") {
  const DeviceArray<float> x(64);
  std::atomic<bool> done = false;
  std::thread other([&done] {
    for (int i = 0; i < 20000; ++i) const DeviceArray<float> first(1), second(300), third(20);
    done = true;
  });
  int refused = 0;
  while (!done) {
    try {
      executor::check_range(x.data(), kBytes, "test");
    } catch (const Failure&) {
      ++refused;
    }
  }
  other.join();
  CHECK(refused == 0);
}
