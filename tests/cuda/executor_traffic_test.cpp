// The traffic counter against kernels whose traffic is known. It needs instrumented kernels: with plain ones it must count nothing.
#include "kernels/cuda_on_cpu/traffic.h"

#include "kernels/gemm.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/toy_kernels.h"

using namespace libtrain;
using namespace libtrain::kernels;
using Catch::Matchers::Contains;

namespace {

constexpr int64_t kCount = 4 * 128 * 8;
constexpr int64_t kElements = 4 * 128;  // that most of the kernels copy
constexpr int64_t kBytes = kElements * int64_t(sizeof(float));

/// The traffic of one launch, in every order of execution.
template <class F> executor::KernelTraffic traffic_in(executor::Order order, const char* name, F&& launch) {
  const InOrder in_order(order);
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  launch();
  runtime::synchronize(Cuda{});
  executor::set_observer(executor::Observer::race);
  return executor::traffic_of(name);
}

template <class F, class G> void check(const char* name, F&& launch, G&& expect) {
  const DeviceArray<float> x(numbers(kCount)), y(kCount);
  for (const executor::Order order : all_orders()) {
    CAPTURE(name, int(order.kind), order.seed);
    const auto got = traffic_in(order, name, [&] { launch(x.data(), y.data()); });
    if (!executor::instrumented()) {
      CHECK(got.launches == 0);
      continue;
    }
    CHECK(got.launches == 1);
    expect(got);
  }
}

}  // namespace

TEST_CASE("traffic: neighbouring elements cost what they are", "[traffic]") {
  check(
      "copy_strided", [](auto* x, auto* y) { toy::copy_strided({}, x, y, 1); },
      [](const auto& t) {
        CHECK(t.requested_read == kBytes);
        CHECK(t.requested_write == kBytes);
        CHECK(t.compulsory() == 2 * kBytes);
        CHECK(t.blocks == 4);
        REQUIRE(t.lines.size() == 2);
        CHECK(t.lines[0].requests == kElements / 32);
        CHECK(t.lines[0].sectors == t.lines[0].least_sectors);
        CHECK_THAT(t.lines[0].line, Contains("toy_kernels.cu:"));
      });
}

TEST_CASE("traffic: strides cost whole sectors", "[traffic]") {
  check(
      "copy_strided", [](auto* x, auto* y) { toy::copy_strided({}, x, y, 8); },
      [](const auto& t) {
        CHECK(t.requested() == 8 * 2 * kBytes);
        CHECK(t.compulsory() == 8 * 2 * kBytes);
        REQUIRE(t.lines.size() == 2);
        CHECK(t.lines[0].sectors == 8 * t.lines[0].least_sectors);
        CHECK(t.lines[0].bytes == kBytes);
      });
}

TEST_CASE("traffic: packs of 16 bytes are one request each", "[traffic]") {
  check(
      "copy_packs", [](auto* x, auto* y) { toy::copy_packs({}, x, y); },
      [](const auto& t) {
        CHECK(t.requested() == 4 * 2 * kBytes);
        CHECK(t.compulsory() == t.requested());
        REQUIRE(t.lines.size() == 2);
        CHECK(t.lines[0].requests == kElements / 32);
      });
}

TEST_CASE("traffic: reading again is requested, not compulsory", "[traffic]") {
  check(
      "copy_rereading", [](auto* x, auto* y) { toy::copy_rereading({}, x, y, 3); },
      [](const auto& t) {
        CHECK(t.requested_read == 3 * kBytes);
        CHECK(t.compulsory_read == kBytes);
      });
}

TEST_CASE("traffic: what a launch has written it need not read", "[traffic]") {
  const DeviceArray<float> z(kCount);
  check(
      "copy_twice", [&](auto* x, auto* y) { toy::copy_twice({}, x, y, z.data()); },
      [](const auto& t) {
        CHECK(t.requested_read == 2 * kBytes);
        CHECK(t.compulsory_read == kBytes);
        CHECK(t.compulsory_write == 2 * kBytes);
      });
}

TEST_CASE("traffic: lanes that sit out a turn do not shift the others' requests", "[traffic]") {
  check(
      "copy_unevenly", [](auto* x, auto* y) { toy::copy_unevenly({}, x, y); },
      [](const auto& t) {
        const int64_t requests = 8 + 2 * 8;  // of warps with one turn and with two
        REQUIRE(t.lines.size() == 2);
        CHECK(t.lines[0].requests == requests);
        CHECK(t.requested_read == requests * 4 * 32);
      });
}

TEST_CASE("traffic: columns of a tile meet in one bank, unless its rows are shifted", "[traffic]") {
  for (const int pitch : {32, 33})
    check(
        "transpose_tile", [&](auto* x, auto* y) { toy::transpose_tile({}, x, y, pitch); },
        [&](const auto& t) {
          CHECK(t.least_bank_cycles == 64);
          CHECK(t.bank_cycles == (pitch == 33 ? 64 : 32 + 32 * 32));
          CHECK(t.bank_conflicts() == (pitch == 33 ? 0 : 31 * 32));
        });
}

TEST_CASE("traffic: cp.async reads the device and fills shared memory, ldmatrix reads it without conflicts",
          "[traffic]") {
  check(
      "pipelined_reverse", [](auto* x, auto* y) { toy::pipelined_reverse({}, x, y, kCount); },
      [](const auto& t) {
        CHECK(t.requested_read == kCount * 4);
        CHECK(t.compulsory_read == kCount * 4);
        CHECK(t.requested_write == kCount * 4);
        CHECK(t.barriers == 2 * kCount / 1024);
        CHECK(t.bank_conflicts() == 0);
      });
}

TEST_CASE("traffic: products count what they must read and write", "[traffic]") {
  const DeviceArray<float> a(std::vector<float>(12, 1)), b(std::vector<float>(20, 1)), c(std::vector<float>(15, 1));
  Gemm<float, float> g;
  g.a = {a.data(), {3, 4, 1, 1}};
  g.b = {b.data(), {4, 5, 1, 1}};
  g.c = {c.data(), true};
  const auto t = traffic_in({}, "gemm", [&] { gemm(Cuda{}, g); });
  CHECK(t.launches == 1);
  CHECK(t.compulsory_read == (12 + 20 + 15) * 4);
  CHECK(t.requested_write == 15 * 4);
}

TEST_CASE("traffic: the table names kernels and, if asked, lines", "[traffic]") {
  const DeviceArray<float> x(numbers(kCount)), y(kCount);
  traffic_in({}, "", [&] { toy::copy_strided({}, x.data(), y.data(), 1); });
  if (!executor::instrumented()) {
    CHECK(executor::traffic().empty());
    return;
  }
  CHECK_THAT(executor::traffic_table(), Contains("copy_strided") && !Contains("toy_kernels.cu"));
  CHECK_THAT(executor::traffic_table(true), Contains("toy_kernels.cu:"));
  executor::reset_traffic();
  CHECK(executor::traffic().empty());
}
