// What kernels compute when they are executed on the CPU, in every order.
#include <bit>
#include <cmath>

#include "kernels/add.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/toy_kernels.h"

using namespace libtrain;
using namespace libtrain::kernels;

TEST_CASE("executor: a block's sum reaches every thread", "[executor]") {
  in_all_orders([] {
    const DeviceArray<float> x(numbers(3 * 128)), y(3 * 128);
    toy::block_sums({}, x.data(), y.data(), 3);
    const auto sums = y.values();
    for (int i = 0; i < 3 * 128; ++i) REQUIRE(sums[i] == 128.0f * float(i / 128 * 128) + 127 * 64);
  });
}

TEST_CASE("executor: static shared memory passes values within a warp", "[executor]") {
  in_all_orders([] {
    const DeviceArray<float> x(numbers(2 * 128)), y(2 * 128);
    toy::mirror_warps({}, x.data(), y.data(), 2);
    const auto mirrored = y.values();
    for (int i = 0; i < 2 * 128; ++i) REQUIRE(mirrored[i] == float(i / 32 * 32 + 31 - i % 32));
  });
}

TEST_CASE("executor: shuffles, votes and warp reductions follow the programming guide", "[executor]") {
  in_all_orders([] {
    const DeviceArray<uint32_t> out(12 * 32);
    toy::warp_calls({}, out.data());
    const auto got = out.values();
    for (unsigned lane = 0; lane < 32; ++lane) {
      CAPTURE(lane);
      const auto row = [&](int index) { return got[index * 32 + lane]; };
      CHECK(row(0) == 15);
      CHECK(row(1) == (lane < 2 ? lane : lane - 2));
      CHECK(row(2) == (lane % 8 < 4 ? lane + 4 : lane));
      CHECK(row(3) == (lane ^ 16));
      CHECK(row(4) == 0x49249249u);
      CHECK(row(5) == (lane / 4 == 2 ? 1u : 0u));
      CHECK(row(6) == (lane / 4 < 2 ? 1u : 0u));
      CHECK(row(7) == (lane / 4 % 2 ? 0xF0F0F0F0u : 0x0F0F0F0Fu));
      CHECK(row(8) == 31 * 16);
      CHECK(int32_t(row(9)) == -26);
      CHECK(row(10) == (lane / 4 == 0 ? 5u : lane / 4 == 1 ? 0xFFFFFFFFu - 0u : 5u - lane / 4 * 4));
      CHECK(row(11) == (lane ^ 3));
    }
  });
}

TEST_CASE("executor: barriers count, and tell any from all", "[executor]") {
  for (const int limit : {0, 5, 96}) {
    CAPTURE(limit);
    const DeviceArray<int> out(96);
    toy::barrier_votes({}, out.data(), 96, limit);
    for (const int value : out.values()) REQUIRE(value == limit + (limit > 0 ? 1000 : 0) + (limit == 96 ? 2000 : 0));
  }
}

TEST_CASE("executor: ldmatrix and mma place every element", "[executor]") {
  std::vector<bf16> a, b;
  for (int i = 0; i < 256; ++i) a.push_back(bf16(float((i * 37 + 11) % 101) - 50));
  for (int i = 0; i < 128; ++i) b.push_back(bf16(float((i * 53 + 7) % 97) - 48));
  in_all_orders([&] {
    const DeviceArray<bf16> da(a), db(b);
    const DeviceArray<float> c(128);
    toy::one_mma({}, da.data(), db.data(), c.data());
    const auto got = c.values();
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column) {
        float expected = 0;  // small integers: exact in any order
        for (int k = 0; k < 16; ++k) expected += float(a[row * 16 + k]) * float(b[column * 16 + k]);
        REQUIRE(got[row * 8 + column] == expected);
      }
  });
}

TEST_CASE("executor: a ring of cp.async stages delivers, and fills the tail with zeros", "[executor]") {
  for (const int64_t count : {1024, 4096, 5000}) {
    in_all_orders([&] {
      const DeviceArray<float> x(numbers(count, 1)), y(count);
      toy::pipelined_reverse({}, x.data(), y.data(), count);
      const auto got = y.values();
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = i / 1024 * 1024 + 1023 - i % 1024;
        REQUIRE(got[i] == (from < count ? float(from + 1) : 0.0f));
      }
    });
  }
}

TEST_CASE("executor: atomics add up", "[executor]") {
  in_all_orders([] {
    std::vector<int32_t> values;
    for (int i = 0; i < 1000; ++i) values.push_back(i * i % 13);
    std::vector<int32_t> expected(8, 0);
    for (const int32_t v : values) ++expected[v % 8];
    const DeviceArray<int32_t> dv(values), counts(std::vector<int32_t>(8, 0));
    toy::histogram({}, dv.data(), dv.size(), counts.data());
    CHECK(counts.values() == expected);
  });
}

TEST_CASE("executor: grids and blocks have three dimensions", "[executor]") {
  in_all_orders([] {
    const DeviceArray<uint32_t> out(12 * 32);
    toy::indices({}, out.data());
    const auto got = out.values();
    for (uint32_t i = 0; i < 12 * 32; ++i) REQUIRE(got[i] == (i / 32 << 16 | i % 32));
  });
}

TEST_CASE("executor: a block may have 227 KiB of dynamic shared memory", "[executor]") {
  const int64_t floats = 227 * 256;
  const DeviceArray<float> y(floats);
  toy::large_shared({}, y.data(), floats);
  const auto got = y.values();
  for (int64_t i = 0; i < floats; ++i) REQUIRE(got[i] == float(floats - 1 - i));
}

TEST_CASE("executor: the first kernel of the library adds", "[executor]") {
  in_all_orders([] {
    for (const int64_t columns : {8, 31}) {
      const int64_t rows = 130;
      const DeviceArray<float> a(numbers(rows * columns)), b(numbers(columns, 3)), y(rows * columns);
      add({},
          Add<float>{
              {a.data(), {rows, columns, 1, 1}}, {b.data(), {1, columns, 1, 1}}, {y.data(), {rows, columns, 1, 1}}});
      const auto got = y.values();
      for (int64_t i = 0; i < rows * columns; ++i) REQUIRE(got[i] == float(i) + float(i % columns) + 3);
    }
  });
}
