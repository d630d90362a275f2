/// Attention in bf16 on a CUDA device: what the table cannot say. Head size 32 runs on tensor cores, a whole sequence in a block or,
/// beyond 128 rows, through a ring of tiles; head size 20 on CUDA cores; 64 and 128 by the kernels for Hopper.
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "hopper.h"
#include "normal_tensor.h"
#include "op_checks.h"

namespace libtrain::testing {
namespace {

struct Path {
  const char* name;
  std::vector<int64_t> lengths;
  int64_t head_dim;
  bool hopper = false;
};
// For Hopper, a sequence that leaves one row of each tile to the next: what lies there must be cleared.
const Path kPaths[] = {{"short", {5, 0, 33, 17}, 32},           {"marked", {5, 0, 99, 17}, 32},
                       {"long", {5, 0, 150, 17}, 32},           {"cores", {5, 0, 33, 17}, 20},
                       {"hopper", {127, 0, 150, 17}, 64, true}, {"hopper 128", {127, 0, 150, 17}, 128, true}};
constexpr int64_t kHeads = 2, kTail = 3;

int64_t tokens_of(const std::vector<int64_t>& lengths) {
  int64_t tokens = kTail;
  for (const int64_t length : lengths) tokens += length;
  return tokens;
}

Tensor random(const Shape& shape, uint64_t seed) { return normal_tensor(shape, DType::bf16, seed); }

Tensor on_device(const Tensor& host, bool wanted = true) { return host.to(Device::kCuda).set_requires_grad(wanted); }

AttentionOptions causal_with_dropout() {
  return {kHeads, true, {0.3f, 3, Tensor::from<int64_t>({5, 9}, {2}, Device::kCuda)}};
}

/// Self-attention of `qkv`, which may have a gradient already; returns output and gradient.
std::pair<Values, Values> run_self(const Tensor& qkv, const std::vector<int64_t>& lengths, const Tensor& dout) {
  const Packing packing = make_packing(lengths, Device::kCuda, qkv.dim(0));
  Tape tape;
  const Tensor out = self_attention(qkv, packing, causal_with_dropout());
  tape.backward(out, dout.to(Device::kCuda));
  return {values_of(out), values_of(qkv.grad())};
}

/// Whether dropout leaves the probability of `key` to a query that sees it, in head 0 of a sequence of this number and length.
bool some_query_keeps(int64_t key, uint32_t sequence, int64_t length) {
  for (int64_t query = key; query < length; ++query) {
    const auto row = kernels::attention_dropout_row(uint32_t(query), sequence, 3, 0);
    if (dropout_bits(random_key({5, 9}), row, uint32_t(key / 8))[size_t(key % 8)] >= dropout_threshold(0.3f))
      return true;
  }
  return false;
}

/// Sets rows [begin, end) of a matrix on the host to NaN.
Tensor with_nan(const Tensor& x, int64_t begin, int64_t end) {
  const Tensor copy = x.clone();
  copy.rows(begin, end).fill(NAN);
  return copy;
}

}  // namespace

TEST_CASE("device attention: a gradient in bf16 that is there already is added to", "[device]") {
  for (const Path& path : kPaths) DYNAMIC_SECTION(path.name) {
      const HopperSwitch hopper(path.hopper);
      const int64_t tokens = tokens_of(path.lengths), width = kHeads * path.head_dim;
      const Tensor host = random({tokens, 3 * width}, 3), dout = random({tokens, width}, 4);
      const Values once = run_self(on_device(host), path.lengths, dout).second;
      const Tensor qkv = on_device(host);
      Tape tape;
      tape.backward(scale(qkv, 1), Tensor::full({tokens, 3 * width}, 2, DType::bf16).to(Device::kCuda));
      Values expected = once;
      for (double& value : expected) value += 2;
      const Values twice = run_self(qkv, path.lengths, dout).second;
      CHECK(worst_difference(twice, expected) <= 0x1p-8 * largest(expected));  // two roundings
    }
}

TEST_CASE("device attention: rows of no sequence are zero and change nothing, even if they hold NaN", "[device]") {
  for (const Path& path : kPaths) DYNAMIC_SECTION(path.name) {
      const HopperSwitch hopper(path.hopper);
      const int64_t tokens = tokens_of(path.lengths), width = kHeads * path.head_dim, first = tokens - kTail;
      const Tensor host = random({tokens, 3 * width}, 3), dout = random({tokens, width}, 4);
      const auto plain = run_self(on_device(host), path.lengths, dout);
      const auto poisoned =
          run_self(on_device(with_nan(host, first, tokens)), path.lengths, with_nan(dout, first, tokens));
      CHECK(same_bits(plain.first, poisoned.first));
      CHECK(same_bits(plain.second, poisoned.second));
      CHECK(std::all_of(plain.first.end() - kTail * width, plain.first.end(), [](double x) { return x == 0; }));
      CHECK(std::all_of(plain.second.end() - kTail * 3 * width, plain.second.end(), [](double x) { return x == 0; }));
    }
}

TEST_CASE("device attention: a NaN stays within its sequence", "[device]") {
  for (const Path& path : kPaths) DYNAMIC_SECTION(path.name) {
      const HopperSwitch hopper(path.hopper);
      const int64_t tokens = tokens_of(path.lengths), width = kHeads * path.head_dim;
      const int64_t begin = path.lengths[0], end = begin + path.lengths[2];  // the sequence between is empty
      const Tensor host = random({tokens, 3 * width}, 3), dout = random({tokens, width}, 4);
      const auto result = run_self(on_device(with_nan(host, begin, begin + 1)), path.lengths, dout);
      for (int64_t row = 0; row < tokens; ++row) {
        const bool within = row >= begin && row < end;
        CHECK(std::isnan(result.first[size_t(row * width)]) == within);
        // dQ, dK, dV; a value whose probabilities are all dropped gets 0, or NaN as 0 times that.
        for (int64_t part = 0; part < 3; ++part)
          if (!within || part < 2 || some_query_keeps(row - begin, 2, end - begin))
            CHECK(std::isnan(result.second[size_t((row * 3 + part) * width)]) == within);
      }
    }
}

TEST_CASE("device attention: one gradient can be wanted without the other", "[device]") {
  for (const Path& path : kPaths) DYNAMIC_SECTION(path.name) {
      const HopperSwitch hopper(path.hopper);
      const std::vector<int64_t> keys{7, 4, 20, 0};
      const int64_t tokens = tokens_of(path.lengths), key_tokens = tokens_of(keys), width = kHeads * path.head_dim;
      const Tensor q = random({tokens, width}, 3), kv = random({key_tokens, 2 * width}, 5);
      const Tensor dout = random({tokens, width}, 4).to(Device::kCuda);
      const auto gradients = [&](bool of_q, bool of_kv) {
        const Tensor a = on_device(q, of_q), b = on_device(kv, of_kv);
        Tape tape;
        tape.backward(cross_attention(a, b, make_packing(path.lengths, Device::kCuda, tokens),
                                      make_packing(keys, Device::kCuda, key_tokens), {kHeads}),
                      dout);
        return std::pair(of_q ? values_of(a.grad()) : Values(), of_kv ? values_of(b.grad()) : Values());
      };
      const auto both = gradients(true, true);
      CHECK(same_bits(gradients(true, false).first, both.first));
      CHECK(same_bits(gradients(false, true).second, both.second));
    }
}

}  // namespace libtrain::testing
