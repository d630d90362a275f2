/// Attention by the kernels for Hopper against the exact result, against mma.sync's kernels, and its dropout bit for bit.
#include "catch.h"
#include "hopper.h"
#include "op_checks.h"

namespace libtrain::testing {
namespace {

constexpr int64_t kWidth = 64;  // one head
constexpr float kP = 0.3f;
constexpr RandomState kState{5, 9};
constexpr uint32_t kStream = 3;
const std::vector<int64_t> kQueries{130, 0, 70}, kKeys{200, 3, 129};

bool kept(size_t sequence, int64_t query, int64_t key) {
  const auto row = kernels::attention_dropout_row(uint32_t(query), uint32_t(sequence), kStream, 0);
  return dropout_bits(random_key(kState), row, uint32_t(key / 8))[size_t(key % 8)] >= dropout_threshold(kP);
}

int64_t sum(const std::vector<int64_t>& lengths) { return std::accumulate(lengths.begin(), lengths.end(), int64_t(0)); }

/// Row p of each sequence has its 1 in column p - 64 window, if there is such a column.
Values one_hot(const std::vector<int64_t>& lengths, int64_t window) {
  Values x;
  for (const int64_t length : lengths)
    for (int64_t row = 0; row < length; ++row)
      for (int64_t column = 0; column < kWidth; ++column) x.push_back(row == window * kWidth + column);
  return x;
}

/// All rows have the same 1.
Values same_row(const std::vector<int64_t>& lengths) {
  Values x(size_t(sum(lengths) * kWidth), 0.0);
  for (size_t i = 0; i < x.size(); i += kWidth) x[i] = 1;
  return x;
}

Tensor on_device(const Values& values) {
  const Shape shape{int64_t(values.size()) / kWidth, kWidth};
  return Tensor::from(std::span<const double>(values), shape).cast(DType::bf16).to(Device::kCuda);
}

struct Outcome {
  Values out, dq, dk, dv;
};

Outcome attend(const Values& q_values, const Values& k_values, const Values& v_values, const Values& dout) {
  const Tensor q = on_device(q_values).set_requires_grad(), k = on_device(k_values).set_requires_grad(),
               v = on_device(v_values).set_requires_grad();
  Tape tape;
  const DropoutSpec dropout{kP, kStream, Tensor::from<int64_t>({5, 9}, {2}, Device::kCuda)};
  const Tensor out = cross_attention(q, concat({k, v}, 1), make_packing(kQueries, Device::kCuda),
                                     make_packing(kKeys, Device::kCuda), {1, false, dropout});
  tape.backward(out, on_device(dout));
  return {values_of(out), values_of(q.grad()), values_of(k.grad()), values_of(v.grad())};
}

/// x has a row for each query (key), and in column c what became of the probability of key (query) 64 window + c: positive if it was kept.
void check_coins(const Values& x, bool rows_are_queries, int64_t window) {
  const auto &rows = rows_are_queries ? kQueries : kKeys, &others = rows_are_queries ? kKeys : kQueries;
  size_t at = 0, wrong = 0;
  for (size_t s = 0; s < rows.size(); ++s)
    for (int64_t row = 0; row < rows[s]; ++row)
      for (int64_t column = 0; column < kWidth; ++column, ++at) {
        const int64_t other = window * kWidth + column;
        if (other >= others[s]) continue;
        const bool expected = rows_are_queries ? kept(s, row, other) : kept(s, other, row);
        wrong += (x[at] > 0) != expected;
      }
  CHECK(wrong == 0);
}

/// The same P and the same sums but for the order of their terms: a rounding of P and one of the result are left.
void check_close(const Values& a, const Values& b) {
  CHECK(worst_difference(a, b) <= 0x1p-7 * std::max(1.0, largest(b)));
}

}  // namespace

TEST_CASE("device hopper attention: bf16 agrees with f64 on the CPU", "[device]") {
  const HopperSwitch on(true);
  for (const OpCase& row : hopper_rows()) DYNAMIC_SECTION(row.name) {
      check_against_exact(row, DType::bf16, Device::kCuda);
    }
}

TEST_CASE("device hopper attention: rows of the table agree with f64 on the CPU", "[device]") {
  const HopperSwitch on(true);
  for (const OpCase& row : op_cases()) {
    if (!row.name.starts_with("attention") || (row.big && cuda::executed_on_cpu())) continue;
    if (row.name.find("head_dim 64") == std::string::npos && row.name.find("head_dim 128") == std::string::npos)
      continue;
    DYNAMIC_SECTION(row.name) { check_against_exact(row, DType::bf16, Device::kCuda); }
  }
}

TEST_CASE("device hopper attention: close to mma.sync's, and not the same", "[device]") {
  for (const OpCase& row : hopper_rows()) DYNAMIC_SECTION(row.name) {
      const auto run_with = [&](bool hopper) {
        const HopperSwitch set(hopper);
        return run(row, DType::bf16, Device::kCuda);
      };
      const Result hopper = run_with(true), again = run_with(true), mma = run_with(false);
      CHECK(same_bits(hopper, again));
      check_close(hopper.output, mma.output);
      for (size_t i = 0; i < mma.gradients.size(); ++i) check_close(hopper.gradients[i], mma.gradients[i]);
      if (hopper_device() && largest(mma.output) > 0) CHECK(!same_bits(hopper, mma));  // else the switch does nothing
    }
}

// With Q or K zero all probabilities are equal. Forward: out = P V, V one-hot. dV = P^T dO, dO one-hot. With V and dO of equal rows
// dP is the same everywhere, and dS is positive where it was kept and negative elsewhere: dK = dS^T Q and dQ = dS K, one-hot.
TEST_CASE("device hopper attention: dropout's coins, bit for bit", "[device]") {
  const HopperSwitch on(true);
  const Values no_queries(size_t(sum(kQueries) * kWidth), 0.0), no_keys(size_t(sum(kKeys) * kWidth), 0.0);
  for (int64_t window = 0; window * kWidth < 200; ++window) {
    INFO("from row " << window * kWidth);
    const Values queries = one_hot(kQueries, window), keys = one_hot(kKeys, window);
    const Outcome values = attend(no_queries, no_keys, keys, queries);
    check_coins(values.out, true, window);
    check_coins(values.dv, false, window);
    check_coins(attend(no_queries, keys, same_row(kKeys), same_row(kQueries)).dq, true, window);
    check_coins(attend(queries, no_keys, same_row(kKeys), same_row(kQueries)).dk, false, window);
  }
}

TEST_CASE("device hopper attention: a captured call has the bits of an eager one", "[device]") {
  const HopperSwitch on(true);
  const OpCase row = attention_row("causal", {{129, 40}, {}, 2}, 2, 64, 0);
  const auto inputs = make_inputs(row, DType::bf16, Device::kCuda);
  const Values eager = values_of(row.call(inputs));
  const MemoryPool pool;
  const Packing packing = make_packing(std::vector<int64_t>{129, 40}, Device::kCuda, inputs[0].dim(0));
  const Tensor out(Shape{inputs[0].dim(0), 128}, DType::bf16, Device::kCuda);
  const cuda::Graph graph(pool, [&] { out.copy_from(self_attention(inputs[0], packing, {2, true})); });
  out.fill(NAN);
  graph.launch();
  CHECK(same_bits(values_of(out), eager));
}

}  // namespace libtrain::testing
