/// self_attention and cross_attention: what the table cannot say.
#include <cmath>

#include "any_threads.h"
#include "catch.h"
#include "compare.h"
#include "normal_tensor.h"
#include "references.h"

namespace libtrain::testing {
namespace {

using Catch::Matchers::Contains;
using Lengths = std::vector<int64_t>;

Tensor random(const Shape& shape, DType dtype = DType::f32, uint64_t seed = 3) {
  return normal_tensor(shape, dtype, seed).set_requires_grad();
}

DropoutSpec drops(float p, uint32_t stream = 3, int64_t step = 9) {
  return {p, stream, Tensor::from<int64_t>({5, step}, {2})};
}

/// A copy of rows [begin, end) that wants a gradient of its own.
Tensor copy_rows(const Tensor& x, int64_t begin, int64_t end) { return x.rows(begin, end).clone().set_requires_grad(); }

struct Result {
  Values out, first, second;  // gradients of qkv, or of q and kv
  bool operator==(const Result&) const = default;
};

Result run_self(const Tensor& qkv, const Packing& packing, const AttentionOptions& options, const Tensor& dout) {
  qkv.clear_grad();
  Tape tape;
  const Tensor out = self_attention(qkv, packing, options);
  tape.backward(out, dout);
  return {values_of(out), values_of(qkv.grad()), {}};
}

Result run_cross(const Tensor& q, const Tensor& kv, const Packing& queries, const Packing& keys,
                 const AttentionOptions& options, const Tensor& dout) {
  Tape tape;
  const Tensor out = cross_attention(q, kv, queries, keys, options);
  tape.backward(out, dout);
  Result result{values_of(out), {}, {}};
  if (q.requires_grad()) result.first = values_of(q.grad());
  if (kv.requires_grad()) result.second = values_of(kv.grad());
  return result;
}

Values part(const Values& values, int64_t begin, int64_t end) { return {values.begin() + begin, values.begin() + end}; }

}  // namespace

TEST_CASE("attention: on the CPU gradients are written over queries, keys and values that nobody holds") {
  const Packing queries = make_packing(Lengths{70, 0, 17, 3}, Device::kCpu, 92),
                keys = make_packing(Lengths{33, 5, 40, 0}, Device::kCpu, 80);
  for (const bool self : {true, false})
    for (const DType dtype : {DType::f32, DType::bf16}) {
      INFO((self ? "self, " : "cross, ") << name(dtype));
      const Tensor first = random({92, self ? 48 : 16}, dtype), second = random({80, 32}, dtype, 4),
                   dout = random({92, 16}, dtype, 5);
      const auto run = [&](bool held) {
        first.clear_grad();
        second.clear_grad();
        Tape tape;
        Tensor q = scale(first, 1), kv = scale(second, 1);  // made by an operation, so that they may be overwritten
        const Tensor out = self ? self_attention(q, queries, {2, true, drops(0.3f)})
                                : cross_attention(q, kv, queries, keys, {2, false, drops(0.3f)});
        if (!held) q = kv = {};
        reset_peak(Device::kCpu);
        tape.backward(out, dout);
        if (held) CHECK(values_of(q) == values_of(first));
        if (held) CHECK(values_of(kv) == values_of(second));
        return std::tuple{values_of(first.grad()), self ? Values{} : values_of(second.grad()),
                          allocator_stats(Device::kCpu).peak_bytes_in_use};
      };
      run(true);  // makes room for gradients
      const auto [held_first, held_second, held_bytes] = run(true);
      const auto [over_first, over_second, over_bytes] = run(false);
      CHECK(over_first == held_first);
      CHECK(over_second == held_second);
      const int64_t saved = (first.numel() + (self ? 0 : second.numel())) * size_of(dtype);
      CHECK(held_bytes - over_bytes >= saved);
    }
}

TEST_CASE("attention: packed sequences give, bit for bit, what each gives alone") {
  const Lengths lengths{5, 0, 33, 1, 17};
  const int64_t tokens = 56, width = 24;
  const Tensor qkv = random({tokens, 3 * width}), dout = random({tokens, width}, DType::f32, 4);
  for (const bool causal : {false, true}) {
    const AttentionOptions options{3, causal};
    const Result all = run_self(qkv, make_packing(lengths), options, dout);
    int64_t first = 0;
    for (const int64_t length : lengths) {
      const int64_t end = first + length;
      const Result one =
          run_self(copy_rows(qkv, first, end), make_packing(std::vector{length}), options, copy_rows(dout, first, end));
      CHECK(one.out == part(all.out, first * width, end * width));
      CHECK(one.first == part(all.first, first * 3 * width, end * 3 * width));
      first = end;
    }
  }
}

TEST_CASE("attention: rows of no sequence are zero and change nothing, even if they hold NaN") {
  const Lengths lengths{4, 19};
  const int64_t tokens = 23, width = 10, tail = 9;
  const Tensor qkv = random({tokens + tail, 3 * width}), dout = random({tokens + tail, width}, DType::f32, 4);
  const AttentionOptions options{2, true, drops(0.2f)};
  const Result alone = run_self(copy_rows(qkv, 0, tokens), make_packing(lengths), options, copy_rows(dout, 0, tokens));
  qkv.rows(tokens, tokens + tail).fill(NAN);
  dout.rows(tokens, tokens + tail).fill(NAN);
  const Result longer = run_self(qkv, make_packing(lengths, Device::kCpu, tokens + tail), options, dout);
  CHECK(part(longer.out, 0, tokens * width) == alone.out);
  CHECK(part(longer.first, 0, tokens * 3 * width) == alone.first);
  CHECK(part(longer.out, tokens * width, (tokens + tail) * width) == Values(size_t(tail * width), 0.0));
  CHECK(part(longer.first, tokens * 3 * width, (tokens + tail) * 3 * width) == Values(size_t(tail * 3 * width), 0.0));
}

TEST_CASE("attention: a NaN stays within its sequence, and a masked score lets none through") {
  const int64_t width = 8;
  const Tensor qkv = random({20, 3 * width});
  qkv.rows(12, 13).fill(NAN);  // position 4 of the second sequence
  const Values out = values_of(self_attention(qkv, make_packing(Lengths{8, 7, 5}), {2, false}));
  for (int64_t row = 0; row < 20; ++row) CHECK(std::isnan(out[size_t(row * width)]) == (row >= 8 && row < 15));
  const Tensor scores = random({20, 3 * width});
  for (int64_t c = 0; c < 2 * width; ++c) scores.view<float>().data[12 * 3 * width + c] = NAN;  // its query and key
  const Values causal = values_of(self_attention(scores, make_packing(Lengths{8, 7, 5}), {2, true}));
  for (int64_t row = 0; row < 20; ++row) CHECK(std::isnan(causal[size_t(row * width)]) == (row >= 12 && row < 15));
}

TEST_CASE("attention: queries without keys and keys without queries get zeros, never NaN") {
  const int64_t width = 6;
  const Packing queries = make_packing(Lengths{3, 0, 2}), keys = make_packing(Lengths{0, 4, 5});
  const Tensor q = random({5, width}), kv = random({9, 2 * width});
  const Result result = run_cross(q, kv, queries, keys, {2, false, drops(0.1f)}, random({5, width}, DType::f32, 4));
  CHECK(part(result.out, 0, 3 * width) == Values(size_t(3 * width), 0.0));
  CHECK(part(result.first, 0, 3 * width) == Values(size_t(3 * width), 0.0));
  CHECK(part(result.second, 0, 4 * 2 * width) == Values(size_t(4 * 2 * width), 0.0));
  for (const Values* values : {&result.out, &result.first, &result.second})
    for (const double value : *values) REQUIRE(std::isfinite(value));
}

TEST_CASE("attention: long sequences need no matrix of all scores and agree with the reference") {
  const auto check = [](const Lengths& queries, const Lengths& keys, int64_t head_dim) {
    const int64_t heads = 2, width = heads * head_dim, rows = queries[0], columns = keys[0];
    const Tensor q = random({rows, width}, DType::f64), kv = random({columns, 2 * width}, DType::f64, 4);
    const AttentionCase reference{queries, keys, heads, head_dim, false, 0, {}, 0};
    const Tensor out = cross_attention(q, kv, make_packing(queries), make_packing(keys), {heads});
    CHECK(worst_difference(values_of(out), attention_reference(reference, {values_of(q), values_of(kv)}, false)) <=
          1e-13);
  };
  check({1}, {2048}, 16);
  check({300}, {300}, 5);
  check({2500}, {1}, 3);

  const int64_t tokens = 2048, width = 16;
  const Tensor qkv = random({tokens, 3 * width}), dout = random({tokens, width}, DType::f32, 4);
  reset_peak(Device::kCpu);
  const int64_t before = allocator_stats(Device::kCpu).bytes_in_use;
  run_self(qkv, make_packing(Lengths{tokens}), {1, true, drops(0.1f)}, dout);
  CHECK(allocator_stats(Device::kCpu).peak_bytes_in_use - before < tokens * tokens * 4 / 4);
}

TEST_CASE("attention: scores far beyond the range of exp") {
  const Tensor qkv = Tensor::zeros({3, 3});
  float* x = qkv.view<float>().data;  // one head of size 1: rows of q, k, v
  for (int64_t i = 0; i < 3; ++i) x[3 * i] = 1000, x[3 * i + 1] = float(i) * 100 - 1000, x[3 * i + 2] = float(i + 1);
  CHECK(values_of(self_attention(qkv, make_packing(Lengths{3}), {1, false})) == Values{3, 3, 3});
  CHECK(values_of(self_attention(qkv, make_packing(Lengths{3}), {1, true})) == Values{1, 2, 3});
}

TEST_CASE("attention: the same bits from any number of threads") {
  Lengths lengths(70);
  int64_t tokens = 0;
  for (size_t s = 0; s < lengths.size(); ++s) tokens += lengths[s] = int64_t(s * 11 % 37);
  const int64_t width = 32;
  const Tensor qkv = random({tokens, 3 * width}), dout = random({tokens, width}, DType::f32, 4);
  same_with_any_threads([&] { return run_self(qkv, make_packing(lengths), {4, true, drops(0.3f)}, dout); });
}

TEST_CASE("attention: all instruction sets compute the same") {
  const Lengths lengths{33, 0, 7, 70};
  const int64_t tokens = 110, width = 26;
  const Tensor qkv = random({tokens, 3 * width}), dout = random({tokens, width}, DType::f32, 4);
  const Packing packing = make_packing(lengths);
  Tape tape;  // so that dropout acts
  const auto run_with = [&](auto device) {
    const Tensor out({tokens, width}, DType::f32), lse({2, tokens}, DType::f32), d({tokens, 3 * width}, DType::f32);
    auto args = detail::attention_arguments<float>(out, lse, packing, packing, {2, true, drops(0.25f)});
    const float* data = qkv.view<const float>().data;
    args.q = {data, 3 * width}, args.k = {data + width, 3 * width}, args.v = {data + 2 * width, 3 * width};
    const Tensor workspace({kernels::attention_workspace(device, args)}, DType::f32);
    args.workspace = workspace.view<float>();
    kernels::attention_forward(device, args);
    const auto at = [&](int64_t offset) { return Sink<float>{d.view<float>().data + offset}; };
    kernels::attention_backward(device, args, dout.view<const float>(), {at(0), at(width), at(2 * width)});
    return Result{values_of(out), values_of(d), values_of(lse)};
  };
  const Result baseline = run_with(Cpu<Isa::kBaseline>{});
  const auto agrees = [&](const Result& other) {
    CHECK(worst_difference(baseline.out, other.out) <= 2e-6);
    CHECK(worst_difference(baseline.first, other.first) <= 2e-5);
    CHECK(worst_difference(baseline.second, other.second) <= 2e-6);
  };
  if constexpr (kBuiltForX86) {
    if (cpu_isa() >= Isa::kAvx2) agrees(run_with(Cpu<Isa::kAvx2>{}));
    if (cpu_isa() >= Isa::kAvx512) agrees(run_with(Cpu<Isa::kAvx512>{}));
  }
}

TEST_CASE("attention: one gradient can be wanted without the other") {
  // So many sequences that a thread takes all heads of one, too.
  for (const auto& [query_lengths, key_lengths] :
       {std::pair{Lengths{3, 40}, Lengths{6, 9}}, {Lengths(200, 2), Lengths(200, 3)}}) {
    const Packing queries = make_packing(query_lengths), keys = make_packing(key_lengths);
    const auto run_wanting = [&](bool first, bool second) {
      const Tensor q = random({queries.tokens(), 8}), kv = random({keys.tokens(), 16}, DType::f32, 5);
      q.set_requires_grad(first), kv.set_requires_grad(second);
      return run_cross(q, kv, queries, keys, {2, false, drops(0.5f)}, random({queries.tokens(), 8}, DType::f32, 6));
    };
    const Result both = run_wanting(true, true), q_only = run_wanting(true, false), kv_only = run_wanting(false, true);
    CHECK(q_only.first == both.first);
    CHECK(kv_only.second == both.second);
  }
}

TEST_CASE("attention: a gradient that is there already is added to, in rows of no sequence too") {
  const Tensor qkv = random({9, 12}), dout = random({9, 4}, DType::f32, 4);
  const Packing packing = make_packing(Lengths{3, 2}, Device::kCpu, 9);
  Values expected = run_self(qkv, packing, {2}, dout).first;
  for (double& value : expected) value += 1;
  qkv.clear_grad();
  Tape tape;
  tape.backward(scale(qkv, 1), Tensor::full({9, 12}, 1));
  tape.backward(self_attention(qkv, packing, {2}), dout);
  CHECK(worst_difference(values_of(qkv.grad()), expected) <= 1e-6);
}

TEST_CASE("attention: dropout keeps the expected share, scaled, and draws by step, stream, head, sequence and query") {
  const int64_t length = 64, heads = 4, sequences = 8, tokens = length * sequences;
  const Tensor qkv = Tensor::zeros({tokens, 3 * heads});  // head_dim 1; equal scores: P = 1 / 64
  for (int64_t row = 0; row < tokens; ++row)
    for (int64_t h = 0; h < heads; ++h) qkv.view<float>().data[row * 3 * heads + 2 * heads + h] = 1;
  const Packing packing = make_packing(Lengths(size_t(sequences), length));
  const auto run_with = [&](const DropoutSpec& spec) {
    Tape tape;
    return values_of(self_attention(qkv, packing, {heads, false, spec}));
  };
  const Values out = run_with(drops(0.3f));
  double sum = 0;
  for (const double value : out) sum += value / double(out.size());
  CHECK(std::abs(sum - 1) < 0.01);  // 131,072 coins: standard deviation 0.0018
  const Values plain = values_of(self_attention(qkv, packing, {heads, false, drops(0.3f)}));
  CHECK(worst_difference(plain, Values(out.size(), 1.0)) <= 1e-6);  // no tape, no dropout

  CHECK(run_with(drops(0.3f)) == out);
  CHECK(run_with(drops(0.3f, 3, 10)) != out);
  CHECK(run_with(drops(0.3f, 4)) != out);
  const auto column = [&](int64_t sequence, int64_t query, int64_t head) {
    return out[size_t(((sequence * length) + query) * heads + head)];
  };
  int heads_alike = 0, sequences_alike = 0, queries_alike = 0;
  for (int64_t i = 0; i + 1 < length; ++i) {
    heads_alike += column(0, i, 0) == column(0, i, 1);
    sequences_alike += column(0, i, 0) == column(1, i, 0);
    queries_alike += column(0, i, 0) == column(0, i + 1, 0);
  }
  CHECK(std::max({heads_alike, sequences_alike, queries_alike}) < 25);  // counts of 64 keys do collide, in one of 13
}

TEST_CASE("attention: its dropout draws other bits than that of elements, whatever their streams") {
  constexpr int64_t kHeads = 4, kLength = 64, kWidth = kHeads * kLength;
  const Packing packing = make_packing(Lengths{kLength});
  const Tensor q = Tensor::zeros({kLength, kWidth}), kv = Tensor::zeros({kLength, 2 * kWidth});
  for (int64_t key = 0; key < kLength; ++key)  // column `key` of a head's output is the probability of that key
    for (int64_t h = 0; h < kHeads; ++h) kv.view<float>().data[key * 2 * kWidth + kWidth + h * kLength + key] = 1;
  const Tape tape;
  const Values out = values_of(cross_attention(q, kv, packing, packing, {kHeads, false, drops(0.5f, 0)}));
  for (int64_t h = 0; h < kHeads; ++h) {
    const Tensor ones = Tensor::full({kLength, kLength}, 1);
    const Values elements = values_of(dropout(ones, packing, drops(0.5f, uint32_t(h))));
    int alike = 0;
    for (int64_t i = 0; i < kLength * kLength; ++i)
      alike += (out[size_t(i / kLength * kWidth + h * kLength + i % kLength)] != 0) == (elements[size_t(i)] != 0);
    INFO(h);
    CHECK(std::abs(alike - 2048) < 200);  // of 4096 coins: standard deviation 32
  }
  // Words from 2^31 on are attention's, the lower ones those of elements.
  const auto word = [](uint32_t stream, uint32_t head) {
    return kernels::attention_dropout_row(0, 0, stream, head).stream;
  };
  CHECK(word(0, 0) == 0x80000000u);
  CHECK(word(1, 0) == word(0, 1023) + 1);
  CHECK(word((1u << 21) - 1, 1023) == 0xFFFFFFFFu);
  CHECK_NOTHROW(cross_attention(q, kv, packing, packing, {kHeads, false, drops(0.5f, (1u << 21) - 1)}));
  CHECK_THROWS_WITH(cross_attention(q, kv, packing, packing, {kHeads, false, drops(0.5f, 1u << 21)}),
                    "[cross_attention] dropout.stream must be below 2097152, got 2097152; new_random_stream() counts "
                    "them from 0");
  CHECK_NOTHROW(dropout(q, drops(0.5f, (1u << 31) - 1)));
  CHECK_THROWS_WITH(dropout(q, drops(0.5f, 1u << 31)),
                    "[dropout] stream must be below 2147483648, got 2147483648; new_random_stream() counts them from "
                    "0");
}

TEST_CASE("attention: shapes, heads and dtypes are checked") {
  const Packing five = make_packing(Lengths{2, 3});
  const auto self = [&](const Tensor& qkv, const AttentionOptions& options = {}) {
    return self_attention(qkv, five, options);
  };
  CHECK_THROWS_WITH(self(Tensor()),
                    "[self_attention] qkv must be [tokens, 3 * width], got undefined; reshape() or project it");
  CHECK_THROWS_WITH(self(Tensor::zeros({5, 8})),
                    "[self_attention] qkv must be [tokens, 3 * width], got f32[5, 8]; reshape() or project it");
  CHECK_THROWS_WITH(self(Tensor::zeros({5, 0})),
                    "[self_attention] qkv must be [tokens, 3 * width], got f32[5, 0]; reshape() or project it");
  CHECK_THROWS_WITH(self(Tensor::zeros({15})), Contains("must be [tokens, 3 * width], got f32[15]"));
  CHECK_THROWS_WITH(self(Tensor::zeros({5, 12}, DType::i32)), Contains("[self_attention] expected a float dtype"));
  CHECK_THROWS_WITH(
      self(Tensor::zeros({5, 12}), {3}),
      "[self_attention] heads must be in [1, 1024] and divide the width 4, got 3; choose another number of heads");
  CHECK_THROWS_WITH(self(Tensor::zeros({5, 12}), {0}), Contains("and divide the width 4, got 0"));
  CHECK_THROWS_WITH(self(Tensor::zeros({5, 3 * 2048}), {2048}), Contains("must be in [1, 1024]"));
  CHECK_THROWS_AS(self(Tensor::zeros({5, 12}), {3}), InvalidArgument);
}

TEST_CASE("attention: queries, keys and their packings must fit each other") {
  const Packing five = make_packing(Lengths{2, 3}), six = make_packing(Lengths{6}), seven = make_packing(Lengths{3, 4});
  const Tensor q = Tensor::zeros({5, 4}), kv = Tensor::zeros({7, 8});
  const auto cross = [&](const Tensor& queries, const Tensor& keys, const AttentionOptions& options = {}) {
    return cross_attention(queries, keys, five, seven, options);
  };
  CHECK_NOTHROW(cross(q, kv));
  CHECK_THROWS_WITH(cross(Tensor::zeros({4}), kv),
                    "[cross_attention] q must be [tokens, width], got f32[4]; reshape() or project it");
  CHECK_THROWS_WITH(cross(q, Tensor()),
                    "[cross_attention] kv must be [key tokens, 8], got undefined; keys and values stand side by side");
  CHECK_THROWS_WITH(
      cross(q, Tensor::zeros({7, 4})),
      "[cross_attention] kv must be f32[7, 8], got f32[7, 4]; its sizes must agree with those of the other arguments");
  CHECK_THROWS_WITH(cross(q, kv.cast(DType::f64)),
                    "[cross_attention] kv must be f32[7, 8], got f64[7, 8]; cast() converts");
  CHECK_THROWS_WITH(cross(kv, kv), Contains("[cross_attention] kv must be f32[7, 16], got f32[7, 8]"));
  CHECK_THROWS_WITH(cross(q, kv, {1, true}), Contains("[cross_attention] cannot be causal"));
  for (const bool of_keys : {false, true}) {
    Packing queries = five, keys = seven;
    (of_keys ? keys : queries).cu_seqlens = Tensor::zeros({3});
    CHECK_THROWS_WITH(cross_attention(q, kv, queries, keys, {}),
                      std::string("[cross_attention] ") + (of_keys ? "keys" : "queries") +
                          ".cu_seqlens must be i32[3], got f32[3]; cast() converts");
  }
  const Tensor shared = Tensor::zeros({4, 4});
  CHECK_THROWS_WITH(
      cross_attention(shared, shared.reshape({2, 8}), make_packing(Lengths{4}), make_packing(Lengths{2}), {}),
      "[cross_attention] q and kv are one tensor, f32[4, 4]; pass scale(q, 1) for q");
  CHECK_THROWS_WITH(
      cross_attention(q, kv, seven, five, {}),
      "[cross_attention] queries describes 7 tokens, got f32[5, 4]; pass the packing that the rows were made with");
  CHECK_THROWS_WITH(
      cross_attention(q, Tensor::zeros({6, 8}), five, six, {}),
      "[cross_attention] queries have 2 sequences, keys 1; each sequence of queries needs one of keys, be it empty");
}

TEST_CASE("attention: a packing that does not describe the rows is refused before a kernel reads it") {
  const Tensor qkv = Tensor::zeros({5, 12});
  const auto with = [&](const Tensor& ends, int64_t max_length) {
    Packing packing = make_packing(Lengths{2, 3});
    packing.cu_seqlens = ends;
    packing.max_length = max_length;
    return self_attention(qkv, packing, {});
  };
  CHECK_NOTHROW(with(Tensor::from<int32_t>({0, 2, 5}, {3}), 3));
  CHECK_THROWS_WITH(self_attention(qkv, Packing{}, {}),
                    "[self_attention] packing is empty; make_packing() makes one from lengths");
  CHECK_THROWS_WITH(with(Tensor::zeros({}, DType::i32), 3),
                    "[self_attention] packing.cu_seqlens must be i32[sequences + 1], got i32[]; make_packing() makes "
                    "them from lengths");
  CHECK_THROWS_WITH(with(Tensor::zeros({3}), 3),
                    "[self_attention] packing.cu_seqlens must be i32[3], got f32[3]; cast() converts");
  CHECK_THROWS_WITH(
      with(Tensor::from<int32_t>({1, 2, 5}, {3}), 3),
      "[self_attention] packing.cu_seqlens must begin with 0, got 1; make_packing() makes them from lengths");
  CHECK_THROWS_WITH(with(Tensor::from<int32_t>({0, 2, 5}, {3}), 2),
                    "[self_attention] packing.cu_seqlens: sequence 1 is rows [2, 5) of 5, max_length is 2; "
                    "make_packing() makes them agree");
  CHECK_THROWS_WITH(with(Tensor::from<int32_t>({0, 2, 6}, {3}), 9), Contains("sequence 1 is rows [2, 6) of 5"));
  CHECK_THROWS_WITH(with(Tensor::from<int32_t>({0, 3, 2}, {3}), 3), Contains("sequence 1 is rows [3, 2) of 5"));
}

TEST_CASE("attention: dropout options are checked") {
  const Tensor qkv = Tensor::zeros({5, 12});
  const Packing packing = make_packing(Lengths{5});
  const auto with = [&](const DropoutSpec& spec) {
    Tape tape;
    return self_attention(qkv, packing, {1, false, spec});
  };
  CHECK_THROWS_WITH(with(drops(1.0f)), "[self_attention] dropout.p must be in [0, 1), got 1; 0 turns it off");
  CHECK_THROWS_WITH(with(drops(-0.5f)), "[self_attention] dropout.p must be in [0, 1), got -0.5; 0 turns it off");
  CHECK_THROWS_WITH(with({0.5f, 1, {}}), Contains("[self_attention] dropout.random_state must be i64[2]"));
  CHECK_THROWS_WITH(with({0.5f, 1, Tensor::zeros({2})}), Contains("dropout.random_state must be i64[2], got f32[2]"));
}

}  // namespace libtrain::testing
