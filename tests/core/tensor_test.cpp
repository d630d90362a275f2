#include <cmath>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;

TEST_CASE("shape: counts, indexes from both ends, prints and refuses", "[tensor]") {
  const Shape shape{2, 3, 5};
  CHECK(shape.numel() == 30);
  CHECK(shape[-1] == 5);
  CHECK(shape.rows() == 6);
  CHECK(shape.str() == "[2, 3, 5]");
  CHECK(shape.with_last(7) == Shape{2, 3, 7});
  CHECK_THROWS_AS(shape.with_last(-1), InvalidArgument);
  CHECK_THROWS_AS((Shape{1LL << 40, 1}.with_last(1LL << 40)), InvalidArgument);
  CHECK(Shape{}.numel() == 1);
  CHECK(message_of<InvalidArgument>([] {
          Shape({1, 2, 3, 4, 5, 6, 7});
        }) == "[shape] expected at most 6 dimensions, got 7; merge some into one");
  CHECK(message_of<InvalidArgument>([] {
          Shape({2, -1});
        }) ==
        "[shape] expected sizes >= 0 whose product fits 63 bits, got [2, -1]; one of them was worked out wrongly");
  CHECK(message_of<InvalidArgument>([] { Shape({1LL << 40, 1LL << 40}); }).find("63 bits") != std::string::npos);
  CHECK(message_of<InvalidArgument>([] { Shape().with_last(2); }) ==
        "[shape] a scalar has no last dimension to replace by 2; reshape() it to [1] first");
  CHECK(message_of<InvalidArgument>([&] { shape[3]; }) ==
        "[shape] dimension 3 of [2, 3, 5], which has 3; they count from 0, or back from -1");
}

TEST_CASE("tensor: values, views and copies", "[tensor]") {
  const Tensor a = Tensor::from({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}, {2, 3});
  CHECK(a.spec() == "f32[2, 3]");
  CHECK(a.str() == "f32[2, 3] on cpu [[1, 2, 3], [4, 5, 6]]");
  CHECK(a.rows(1, 2).to_vector<float>() == std::vector<float>{4, 5, 6});
  CHECK(a.reshape({3, -1}).shape() == Shape{3, 2});
  a.reshape({6}).view<float>().data[0] = 9;  // a view, not a copy
  CHECK(a.to_vector<float>()[0] == 9);
  const Tensor copy = a.clone();
  copy.fill(0);
  CHECK(a.to_vector<float>()[0] == 9);
  CHECK(Tensor::full({}, 2.5, DType::f64).item() == 2.5);
  CHECK(a.cast(DType::bf16).cast(DType::f64).to_vector<double>()[1] == 2.0);
  CHECK(Tensor().spec() == "undefined");
}

TEST_CASE("tensor: a minus before zero is kept, and integers print whole", "[tensor]") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    CHECK(std::signbit(Tensor::full({1}, -0.0, dtype).item()));
  CHECK(Tensor::from<int64_t>({123456, -7, 1LL << 53}, {3}).str() == "i64[3] on cpu [123456, -7, 9007199254740992]");
  CHECK(Tensor::from<int64_t>({std::numeric_limits<int64_t>::max(), (1LL << 53) + 1}, {2}).str() ==
        "i64[2] on cpu [9223372036854775807, 9007199254740993]");
}

TEST_CASE("tensor: more bytes than any device has are refused as such", "[tensor]") {
  for (const int64_t elements : {1LL << 60, 1LL << 61, (1LL << 62) + 1})
    CHECK(message_of<OutOfMemory>([&] { Tensor({elements}, DType::f64); }).find("more bytes than any device") !=
          std::string::npos);
}

TEST_CASE("tensor: long dimensions print their ends", "[tensor]") {
  std::vector<int32_t> values(100);
  for (int i = 0; i < 100; ++i) values[size_t(i)] = i;
  CHECK(Tensor::from(values, {100}).to_vector<int32_t>() == values);
  CHECK(Tensor::from(std::span<const int32_t>(values), {100}).str() == "i32[100] on cpu [0, 1, 2, …, 97, 98, 99]");
}

TEST_CASE("tensor: misuse is answered with the values that clash", "[tensor]") {
  const Tensor a = Tensor::zeros({2, 3});
  CHECK(message_of<InvalidArgument>([&] {
          a.reshape({4, -1});
        }) == "[reshape] 6 elements of [2, 3] do not divide by 4, so that -1 has no value; change the other sizes");
  CHECK(message_of<InvalidArgument>([&] { a.reshape(Shape{7}); }) ==
        "[reshape] f32[2, 3] has 6 elements, shape [7] needs 7; a size of -1 is worked out from the others");
  CHECK(message_of<InvalidArgument>([&] {
          a.reshape({-1, -1});
        }) == "[reshape] expected at most one size of -1, got 2; write the others out");
  CHECK(message_of<InvalidArgument>([&] {
          Tensor::zeros({1, 1, 1, 1, 2}).view<float>();
        }) == "[tensor] f32[1, 1, 1, 1, 2] has more dimensions than a kernel view; reshape() it to at most 4");
  CHECK(message_of<InvalidArgument>([&] { a.rows(1, 4); }) ==
        "[rows] expected 0 <= begin <= end <= the first dimension, got begin 1 and end 4 of f32[2, 3]; end is one past "
        "the last row");
  CHECK(message_of<InvalidArgument>([&] { a.item(); }) ==
        "[item] expected one element, got f32[2, 3]; reduce it with sum() or mean(), or read it with to_vector()");
  CHECK(message_of<InvalidArgument>([&] { a.grad(); }) ==
        "[grad] no gradient has been written for f32[2, 3]; call set_requires_grad() before the forward pass and "
        "backward() after it");
  CHECK(message_of<InvalidArgument>([&] { a.view<double>(); }) ==
        "[tensor] elements of f32[2, 3] read as f64; name its own type, or cast() it first");
  CHECK(message_of<InvalidArgument>([&] {
          a.copy_from(Tensor::zeros({3, 2}));
        }) == "[copy_from] expected f32[2, 3], got f32[3, 2]; reshape() and cast() convert");
  CHECK(message_of<InvalidArgument>([&] { Tensor::from({1.f}, {2}); }) ==
        "[tensor] 1 values given for shape [2]; give as many as the product of its sizes");
  CHECK(message_of<InvalidArgument>([&] { Tensor().dtype(); }) ==
        "[tensor] this handle is undefined (default-constructed); assign a tensor to it first");
  CHECK(message_of<InvalidArgument>([&] { Tensor::zeros({2}, DType::i32).set_requires_grad(); }) ==
        "[set_requires_grad] expected a float tensor, got i32[2]; only those have gradients: cast() converts");
  CHECK(message_of<DeviceError>([&] { Tensor({2}, DType::f32, Device::kCuda); }).find("LIBTRAIN_CUDA=ON") !=
        std::string::npos);
}

TEST_CASE("bf16: rounds to nearest even and keeps infinities and NaN", "[tensor]") {
  CHECK(float(bf16(1.00390625f)) == 1.0f);       // halfway, to even
  CHECK(float(bf16(1.01171875f)) == 1.015625f);  // halfway, to even
  CHECK(float(bf16(INFINITY)) == INFINITY);
  CHECK(float(bf16(-3.5f)) == -3.5f);
  CHECK(std::isnan(float(bf16(NAN))));
  CHECK(std::isnan(float(bf16(std::bit_cast<float>(0x7F800001u)))));
}

TEST_CASE("allocator: hands blocks out again and counts", "[allocator]") {
  release_cached(Device::kCpu);
  { const Tensor warm({1000}, DType::f32); }
  const auto before = allocator_stats(Device::kCpu);
  for (int i = 0; i < 10; ++i) const Tensor again({1000}, DType::f32);
  const auto after = allocator_stats(Device::kCpu);
  CHECK(after.system_allocations == before.system_allocations);
  CHECK(after.allocations == before.allocations + 10);
  CHECK(after.bytes_in_use == before.bytes_in_use);
  reset_peak(Device::kCpu);
  { const Tensor big({1 << 20}, DType::f32); }
  CHECK(allocator_stats(Device::kCpu).peak_bytes_in_use >= after.bytes_in_use + (4 << 20));
  release_cached(Device::kCpu);
  CHECK(allocator_stats(Device::kCpu).bytes_cached == 0);
}

TEST_CASE("tensor: made from lists as they are nested", "[tensor]") {
  CHECK(Tensor::from({1.0f, 2.5f}).spec() == "f32[2]");
  const Tensor matrix = Tensor::from({{1, 2, 3}, {4, 5, 6}});
  CHECK(matrix.spec() == "i32[2, 3]");
  CHECK(matrix.to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3, 4, 5, 6});
  CHECK(message_of<InvalidArgument>([] {
          Tensor::from({{1.0}, {2.0, 3.0}});
        }) == "[tensor] rows of 1 and of 2 values are no matrix; make them of one length");
}

TEST_CASE("compare: within the tolerance, or the worst element is named", "[tensor]") {
  const Tensor a = Tensor::from({{1.0f, 2.0f}, {3.0f, 4.0f}, {5.0f, 6.0f}});
  CHECK(all_close(a, a.cast(DType::f64)));
  CHECK(all_close(a, Tensor::from({{1, 2}, {3, 4}, {5, 6}})));
  Tensor b = a.clone();
  b.copy_from(Tensor::from({{1.0f, 2.0f}, {3.5f, 4.25f}, {5.0f, 6.00001f}}));
  CHECK(difference(a, b) == "[1, 0]: 3 and 3.5 differ by 0.5, 3.5e-05 allowed; so do 2 of 6 elements");
  CHECK(difference(a, b, {.relative = 0, .absolute = 0.3}) ==
        "[1, 0]: 3 and 3.5 differ by 0.5, 0.3 allowed; so do 1 of 6 elements");
  CHECK(all_close(a, b, {.absolute = 0.5}));
  CHECK_FALSE(all_close(a, b, {.absolute = 0.49}));
  CHECK(difference(a, a.reshape({2, 3})) == "shapes differ: f32[3, 2] and f32[2, 3]");

  const Tensor odd = Tensor::from({1.0, double(NAN), double(INFINITY)});
  CHECK(difference(odd, odd) == "[1]: nan and nan differ by nan, nan allowed; so do 1 of 3 elements");
  CHECK(all_close(odd, odd, {.equal_nan = true}));
  CHECK_FALSE(all_close(Tensor::from({1.0}), Tensor::from({double(INFINITY)})));
  CHECK_FALSE(all_close(Tensor::from({double(-INFINITY)}), Tensor::from({double(INFINITY)})));
  CHECK(all_close(Tensor::zeros({0}), Tensor::zeros({0})));
}

TEST_CASE("allocator: guards notice a write one element past the end, and one before the start", "[allocator]") {
  const int64_t before = allocator_stats(Device::kCpu).guard_violations;
  set_allocator_guards(true);
  { Tensor::zeros({7}).view<float>().data[7] = 1; }
  { Tensor::zeros({7}).view<float>().data[-1] = 1; }
  { Tensor::zeros({7}).view<float>().data[6] = 1; }
  CHECK(std::isnan(Tensor({3}, DType::f32).to_vector<float>()[2]));
  set_allocator_guards(false);
  CHECK(allocator_stats(Device::kCpu).guard_violations == before + 2);
}

TEST_CASE("allocator: memory that cannot be had is an OutOfMemory that says how much was asked", "[allocator]") {
  const std::string message = message_of<OutOfMemory>([] { Tensor({1LL << 46}, DType::f64); });
  CHECK(
      message.find("asked for 562949953421312 bytes (536870912.0 MiB) of other tensors with none cached and in use ") !=
      std::string::npos);
  CHECK(Tensor::zeros({4}).numel() == 4);  // usable afterwards
}

TEST_CASE("allocator: memory is counted by what it is for, and the one who asks in vain is told", "[allocator]") {
  const auto used = [](MemoryUse use) { return allocator_stats(Device::kCpu).bytes_for(use); };
  const int64_t weights = used(MemoryUse::kWeights), gradients = used(MemoryUse::kGradients),
                moments = used(MemoryUse::kOptimizer), activations = used(MemoryUse::kActivations),
                others = used(MemoryUse::kOther);
  {
    Parameters parameters;
    const Tensor w = parameters.add("w", {1000, 10}, init::constant(1));
    CHECK(used(MemoryUse::kWeights) >= weights + 40000);
    CHECK(used(MemoryUse::kGradients) - gradients == used(MemoryUse::kWeights) - weights);
    CHECK(used(MemoryUse::kOptimizer) == moments);
    parameters.keep_moments(2);
    CHECK(used(MemoryUse::kOptimizer) - moments == 2 * (used(MemoryUse::kWeights) - weights));
    const Tensor before = scale(w, 2);
    CHECK(used(MemoryUse::kOther) >= others + 40000);
    const Tape tape;
    const Tensor during = scale(w, 2);
    CHECK(used(MemoryUse::kActivations) == activations + 40000);
    const std::string message = message_of<OutOfMemory>([] { Tensor({1LL << 46}, DType::f64); });
    CHECK(message.find(" of activations with none cached and in use ") != std::string::npos);
    CHECK(message.find(" of weights, ") != std::string::npos);
    CHECK(message.find(format_message(", {} bytes of activations", activations + 40000)) != std::string::npos);
  }
  CHECK(used(MemoryUse::kWeights) == weights);
  CHECK(used(MemoryUse::kActivations) == activations);
  CHECK(used(MemoryUse::kOther) == others);
}

}  // namespace libtrain
