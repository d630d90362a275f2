// What Hopper's asynchronous instructions compute when they are executed on the CPU, in every order.
#include "kernels/cuda_on_cpu/traffic.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/hopper_kernels.h"

using namespace libtrain;
using namespace libtrain::kernels;

namespace {

/// Small integers, of which all sums here are exact.
std::vector<bf16> small_numbers(int64_t count, int seed) {
  std::vector<bf16> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(bf16(float((i * 37 + i / 61 * 11 + seed) % 13 - 6)));
  return values;
}

/// c [rows, columns] = a [rows, k] b, b [columns, k] or [k, columns].
std::vector<float> plain_product(const std::vector<bf16>& a, const std::vector<bf16>& b, int rows, int columns, int k,
                                 bool transposed) {
  std::vector<float> c(size_t(rows * columns), 0.0f);
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column)
      for (int i = 0; i < k; ++i)
        c[size_t(row * columns + column)] +=
            float(a[size_t(row * k + i)]) * float(b[size_t(transposed ? i * columns + column : column * k + i)]);
  return c;
}

}  // namespace

TEST_CASE("hopper: products through a ring of TMA copies are those of plain loops", "[hopper]") {
  for (const auto& product : hopper::products()) {
    for (const int k : {0, 64, 128, 192, 256, 328}) {  // none to six tiles, the last one short
      CAPTURE(product.name, k);
      const auto a = small_numbers(product.rows * k, 1), b = small_numbers(product.columns * k, 5);
      const auto expected = plain_product(a, b, product.rows, product.columns, k, product.transposed);
      in_all_orders([&] {
        const DeviceArray<bf16> da(a), db(b);
        const DeviceArray<float> c(int64_t(expected.size()));
        product.run({}, da.data(), db.data(), c.data(), k);
        REQUIRE((c.values() == expected));
      });
    }
  }
}

TEST_CASE("hopper: both operands may lie by rows of K, and be written by threads", "[hopper]") {
  const auto a = small_numbers(16 * 64, 2), b = small_numbers(16 * 64, 3);
  std::vector<bf16> a_by_rows(a.size());
  for (int k = 0; k < 16; ++k)
    for (int row = 0; row < 64; ++row) a_by_rows[size_t(row * 16 + k)] = a[size_t(k * 64 + row)];
  in_all_orders([&] {
    const DeviceArray<bf16> da(a), db(b);
    const DeviceArray<float> c(64 * 64);
    hopper::product_of_written({}, da.data(), db.data(), c.data());
    CHECK((c.values() == plain_product(a_by_rows, b, 64, 64, 16, true)));
  });
}

TEST_CASE("hopper: boxes by TMA are zero outside of the matrix", "[hopper]") {
  const int rows = 40, columns = 100, stride = 104;
  const auto x = small_numbers(rows * stride, 4);
  const DeviceArray<bf16> dx(x);
  for (const auto& [row, column] : {std::pair{0, 0}, {30, 64}, {-5, -8}, {7, 37}, {40, 0}, {3, 100}, {-24, 0}}) {
    CAPTURE(row, column);
    in_all_orders([&, row = row, column = column] {
      const DeviceArray<bf16> out(24 * 64);
      hopper::load_box({}, dx.data(), rows, columns, stride, row, column, out.data());
      const auto got = out.values();
      for (int i = 0; i < 24 * 64; ++i) {
        const int r = row + i / 64, c = column + i % 64;
        const bool inside = r >= 0 && r < rows && c >= 0 && c < columns;
        REQUIRE(float(got[size_t(i)]) == (inside ? float(x[size_t(r * stride + c)]) : 0.0f));
      }
    });
  }
}

TEST_CASE("hopper: maps that no device takes are refused", "[hopper]") {
  const DeviceArray<bf16> x(64 * 64 + 8);
  const DeviceArray<bf16> out(24 * 64);
  const auto load = [&](const bf16* data, int64_t columns, int64_t stride) {
    hopper::load_box({}, data, 64, columns, stride, 0, 0, out.data());
  };
  CHECK_THROWS_WITH(load(x.data() + 1, 64, 64), Catch::Contains("not a multiple of 16"));
  CHECK_THROWS_WITH(load(x.data(), 60, 60), Catch::Contains("row stride of 60"));
  CHECK_THROWS_WITH(load(x.data(), 72, 64), Catch::Contains("row stride 64"));
  load(x.data(), 64, 72);  // its 24 rows are there
  out.values();
  load(x.data() + 64 * 48, 64, 64);  // and these are not
  CHECK_THROWS_WITH(out.values(), Catch::Contains("out of bounds: row 16 of the matrix"));
}

TEST_CASE("hopper: traffic counts what TMA reads", "[hopper][traffic]") {
  const DeviceArray<bf16> x(small_numbers(40 * 64, 4)), out(24 * 64);
  executor::set_observer(executor::Observer::traffic);
  executor::reset_traffic();
  hopper::load_box({}, x.data(), 40, 64, 64, 30, 0, out.data());  // 10 rows of it are there
  runtime::synchronize(Cuda{});
  executor::set_observer(executor::Observer::race);
  const auto traffic = executor::traffic_of("load_box");
  CHECK(traffic.requested_read == (executor::instrumented() ? 10 * 128 : 0));
  CHECK(traffic.compulsory_read == traffic.requested_read);
}

TEST_CASE("hopper: named barriers hand a buffer to and fro", "[hopper]") {
  for (const int rounds : {0, 1, 2, 5}) {
    in_all_orders([&] {
      const DeviceArray<float> x(numbers(rounds * 128 + 1)), y(rounds * 128 + 1);
      hopper::pass_by_named_barriers({}, x.data(), y.data(), rounds);
      const auto got = y.values();
      for (int i = 0; i < rounds * 128; ++i) REQUIRE(got[size_t(i)] == float(i / 128 * 128 + 127 - i % 128));
    });
  }
}

TEST_CASE("hopper: phases of an mbarrier end when all have arrived", "[hopper]") {
  in_all_orders([] {
    const DeviceArray<int> out(64);
    hopper::count_phases({}, out.data(), 5);
    for (const int right : out.values()) CHECK(right == 10);
  });
}
