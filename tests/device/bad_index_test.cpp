/// What kernels do with indices that only they see.
#include "catch.h"
#include "op_cases.h"

namespace libtrain::testing {

TEST_CASE("device: an index that the host cannot see is skipped and noted", "[device]") {
  const auto on_device = [](std::initializer_list<int32_t> values) {
    return Tensor::from(values, {int64_t(values.size())}, Device::kCuda);
  };
  const auto noted = [] {
    const BadIndex bad = cuda::take_bad_index();
    return std::tuple(bad.op, bad.row, bad.position, bad.value, bad.limit);
  };
  const Tensor table = Tensor::full({3, 4}, 1, DType::f32, Device::kCuda);
  table.set_requires_grad();
  for (const int32_t bad : {3, -1, INT32_MAX, INT32_MIN}) {
    INFO(bad);
    Tape tape;
    const Tensor y = embedding(on_device({2, bad, 1, 2}), table);
    CHECK(values_of(y) == Values{1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1});
    CHECK(noted() == std::tuple(BadIndex::kEmbedding, 1, -1, bad, 3));
    tape.backward(y, Tensor::full({4, 4}, 1, DType::f32, Device::kCuda));
    CHECK(values_of(table.grad()) == Values{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2});
    CHECK(noted() == std::tuple(BadIndex::kEmbedding, 1, -1, bad, 3));
    table.clear_grad();
  }
  const Tensor positions = Tensor::full({2, 4}, 10, DType::f32, Device::kCuda);
  CHECK(values_of(embedding(on_device({0, 1}), table, 1, positions, on_device({2, 1}))) ==
        Values{0, 0, 0, 0, 11, 11, 11, 11});
  CHECK(noted() == std::tuple(BadIndex::kEmbedding, 0, 2, 2, 2));
  embedding(on_device({0, 1}), table, 1, positions, on_device({7, 1}), 0);  // padding has no position
  CHECK(std::get<0>(noted()) == BadIndex::kNone);

  Tape tape;
  const Tensor rows = unpack_rows(table, on_device({1, -1, 4}));
  CHECK(values_of(rows) == Values{1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(noted() == std::tuple(BadIndex::kCopyRows, 2, -1, 4, 3));
  tape.backward(rows, Tensor::full({3, 4}, 1, DType::f32, Device::kCuda));
  CHECK(values_of(table.grad()) == Values{0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0});
  CHECK(noted() == std::tuple(BadIndex::kCopyRows, 2, -1, 4, 3));
}

}  // namespace libtrain::testing
