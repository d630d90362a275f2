/// The CUDA kernels at sizes of real training and whole training steps, each with its share of the roofs that the same process measures first:
/// a copy within the device, and a product of 8192 x 8192 matrices in bf16.
///
///   gpu_bench [--small] [--filter TEXT]     one JSON object a line on stdout; --small: shapes for a device that is executed on the CPU
///
/// Times are between events on the stream, from an empty cache (Stopwatch): medians of 20 runs, with the 10th and 90th percentiles. Cases that
/// memory bounds come with the time that copies of as many bytes take in the same way. Steps: see gpu_steps.cpp.
#include <cstring>
#include <numeric>

#include "gpu_measure.h"
#include "kernels/cuda/attention_paths.h"

namespace {

using namespace libtrain;
using bench::Percentiles, bench::Roofs, bench::Stopwatch;

/// One kernel or group of kernels: what it must move at least, in each of the parts that are timed, and what it must compute.
struct Case {
  std::string name;
  std::vector<double> bytes;
  double flops;
  std::function<void(Stopwatch&)> work;  // enqueues it, and says what of that counts

  double all_bytes() const { return std::accumulate(bytes.begin(), bytes.end(), 0.0); }
};

std::function<void(Stopwatch&)> timed(std::function<void()> call) {
  return [call = std::move(call)](Stopwatch& watch) {
    watch.begin();
    call();
    watch.end();
  };
}

/// Two arrays of the device, to copy from one to the other: what memory gives at best.
class Copy {
 public:
  explicit Copy(int64_t bytes)
      : from_({bytes / 4}, DType::f32, Device::kCuda), to_({bytes / 4}, DType::f32, Device::kCuda) {
    from_.fill(0.5);
  }
  /// Microseconds of a copy that moves so many bytes, those that it writes counted too. More than `bytes` take at the roof's rate: launch,
  /// first load and last store are felt by a small copy as by a small kernel.
  Percentiles measure(Stopwatch& watch, double bytes) const {
    const int64_t elements = std::clamp<int64_t>(int64_t(bytes) / 8, 1, from_.numel());
    return watch.measure(timed([&] { to_.rows(0, elements).copy_from(from_.rows(0, elements)); }));
  }

 private:
  Tensor from_, to_;
};

/// With the time of copies that move as much, for cases that memory bounds.
void measure_and_print(const Case& c, Stopwatch& watch, const Roofs& roofs, const Copy& copy) {
  const Percentiles us = watch.measure(c.work);
  std::string more;
  if (c.all_bytes() / roofs.bytes_per_us > c.flops / roofs.flops_per_us) {
    double copies = 0;
    for (const double bytes : c.bytes) copies += copy.measure(watch, bytes).median;
    more = format_message(",\"copy_us\":{:.2f}", copies);
  }
  bench::print(c.name, c.all_bytes(), c.flops, us, roofs, more);
}

/// Values in [-1, 1) that repeat after about a million: made once on the host, laid out many times on the device.
Tensor values(const Shape& shape, DType dtype) {
  constexpr int64_t kPeriod = 1 << 20;
  std::vector<float> host(size_t(std::min(kPeriod, shape.numel())));
  const auto key = random_key({7, 7});
  for (size_t i = 0; i < host.size(); ++i)
    host[i] = float(philox<7>({uint32_t(i), 0, 0, 0}, uint32_t(key), uint32_t(key >> 32))[0]) * 0x1p-31f - 1;
  const Tensor part = Tensor::from(std::span<const float>(host), {int64_t(host.size())}).cast(dtype).to(Device::kCuda);
  const Tensor all(Shape{shape.numel()}, dtype, Device::kCuda);
  for (int64_t at = 0; at < all.numel(); at += part.numel()) {
    const int64_t count = std::min(part.numel(), all.numel() - at);
    all.rows(at, at + count).copy_from(part.rows(0, count));
  }
  return all.reshape(shape);
}

Tensor ids(int64_t count, int64_t below) {
  std::vector<int32_t> host(static_cast<size_t>(count));
  const auto key = random_key({8, 8});
  for (size_t i = 0; i < host.size(); ++i) {  // the square makes small numbers common, as words are
    const double u = double(philox<7>({uint32_t(i), 0, 0, 0}, uint32_t(key), uint32_t(key >> 32))[0]) * 0x1p-32;
    host[i] = int32_t(double(below) * u * u);
  }
  return Tensor::from(std::span<const int32_t>(host), {count}, Device::kCuda);
}

Packing packed(int64_t tokens, int64_t length) {
  std::vector<int64_t> lengths(size_t(tokens / length), length);
  return make_packing(lengths, Device::kCuda, tokens);
}

/// A scalar whose gradient is dy at y, and all there is before `then` is called in backward.
Tensor seeded(const Tensor& y, const Tensor& dy, std::function<void()> then) {
  const Tensor scalar(Shape{}, y.dtype(), y.device());
  record("seed", scalar, {y, dy}, {}, [then = std::move(then)](const BackwardStep& step) {
    visit_float("seed", step.inputs[0].dtype(), [&]<class T> { step.sink<T>(0); });
    step.inputs[0].grad().copy_from(step.inputs[1]);
    then();
  });
  return scalar;
}

/// forward alone, and forward with backward, timed each from an empty cache; `backward_bytes` and `backward_flops` are those of backward.
void add_both(std::vector<Case>& cases, const std::string& name, std::vector<Tensor> inputs, double bytes,
              double backward_bytes, double flops, double backward_flops,
              const std::function<Tensor(const std::vector<Tensor>&)>& call) {
  cases.push_back({name + " forward", {bytes}, flops, timed([=] {
                     const NoTape nothing_recorded;
                     call(inputs);
                   })});
  for (const Tensor& input : inputs)
    if (is_float(input.dtype())) input.set_requires_grad();
  const auto upstream = std::make_shared<Tensor>();
  cases.push_back({name + " forward+backward", {bytes, backward_bytes}, flops + backward_flops, [=](Stopwatch& watch) {
                     Tape tape;
                     watch.begin();
                     const Tensor y = call(inputs);
                     watch.end();
                     if (!upstream->defined())  // what arrives at a loss in training is 1
                       *upstream =
                           y.rank() == 0 ? Tensor::full({}, 1, y.dtype(), y.device()) : values(y.shape(), y.dtype());
                     tape.backward(seeded(y, *upstream, [&] {
                       watch.flush();
                       watch.begin();
                     }));
                     watch.end();
                     for (const Tensor& input : inputs) input.clear_grad();
                   }});
}

/// Bias and activation in the product's epilogue against a kernel of their own: which of them linear_activation() is to take.
void add_epilogues(std::vector<Case>& cases, const std::string& suffix, const Tensor& x, const Tensor& w,
                   double flops) {
  const Tensor bias = values({w.dim(0)}, x.dtype());
  const auto add_case = [&](const std::string& name, const std::function<Tensor()>& call) {
    cases.push_back({name + suffix, {}, flops, timed([=] {
                       const NoTape nothing_recorded;
                       call();
                     })});
  };
  add_case("linear_bias in the product", [=] { return linear(x, w, bias); });
  add_case("linear_bias in two kernels", [=] { return add(linear(x, w), bias); });
  for (const auto& [name, activation] :
       {std::pair{"linear_relu", Activation::kRelu}, std::pair{"linear_gelu_tanh", Activation::kGeluTanh}}) {
    add_case(name + std::string(" in the product"),
             [=, a = activation] { return detail::activation_in_product(x, w, bias, a); });
    add_case(name + std::string(" in two kernels"),
             [=, a = activation] { return bias_activation(linear(x, w), bias, a); });
  }
}

/// Causal attention of long sequences.
void add_long_attention(std::vector<Case>& cases, const std::string& name, const Tensor& qkv, int64_t length,
                        int64_t head_dim) {
  const int64_t width = qkv.dim(1) / 3, heads = width / head_dim;
  const Packing packing = packed(qkv.dim(0), length);
  const double flops = 2.0 * double(qkv.dim(0)) * double(length * width);  // half of the scores
  add_both(cases, name, {qkv}, 0, 0, flops, 2.5 * flops,
           [=](const auto& in) { return self_attention(in[0], packing, {.heads = heads, .causal = true}); });
}

/// Whether a case takes the kernels for Hopper: timed beside mma.sync's, for the default of their switch to be set by.
bool wants_wgmma(const Case& c) { return c.name.find(" wgmma ") != std::string::npos; }

struct Sizes {
  int64_t tokens, width, heads, vocab, inner, parameters, long_tokens, long_length;
};

std::vector<Case> make_cases(const Sizes& s, DType dtype) {
  std::vector<Case> cases;
  const double e = double(size_of(dtype)), matrix = double(s.tokens * s.width) * e;
  const std::string suffix = std::string(" ") + name(dtype);
  const Tensor x = values({s.tokens, s.width}, dtype), r = values({s.tokens, s.width}, dtype);
  const Tensor w = values({s.width}, dtype), b = values({s.width}, dtype);
  const Tensor random_state = Tensor::from<int64_t>({1, 2}, {2}, Device::kCuda);
  const DropoutSpec drop{0.1f, 3, random_state};

  add_both(cases, "layer_norm" + suffix, {x, w, b}, 2 * matrix, 3 * matrix, 0, 0,
           [](const auto& in) { return layer_norm(in[0], in[1], in[2]); });
  add_both(cases, "rms_norm" + suffix, {x, w}, 2 * matrix, 3 * matrix, 0, 0,
           [](const auto& in) { return rms_norm(in[0], in[1]); });
  add_both(cases, "add_dropout_layer_norm" + suffix, {x, r, w, b}, 4 * matrix, 4 * matrix, 0, 0, [=](const auto& in) {
    return add_dropout_layer_norm(in[0], in[1], Tensor(), in[2], in[3], Packing{}, drop).y;
  });
  add_both(cases, "gelu" + suffix, {x}, 2 * matrix, 3 * matrix, 0, 0,
           [](const auto& in) { return gelu(in[0], GeluForm::kTanh); });
  add_both(cases, "dropout" + suffix, {x}, 2 * matrix, 2 * matrix, 0, 0,
           [=](const auto& in) { return dropout(in[0], Packing{}, drop); });

  const Tensor table = values({s.vocab, s.width}, dtype), tokens = ids(s.tokens, s.vocab);
  add_both(cases, "embedding" + suffix, {table}, 2 * matrix, matrix + double(s.vocab * s.width) * 4, 0, 0,
           [=](const auto& in) { return embedding(tokens, in[0]); });

  const Tensor logits = values({s.tokens / 4, s.vocab}, dtype), targets = ids(s.tokens / 4, s.vocab);
  const double logit_bytes = double(logits.numel()) * e;
  add_both(cases, "cross_entropy" + suffix, {logits}, logit_bytes, 2 * logit_bytes, 0, 0,
           [=](const auto& in) { return cross_entropy(in[0], targets).sum; });
  const Tensor hidden = values({s.tokens / 4, s.width}, dtype);
  const double product = 2.0 * double(s.tokens / 4) * double(s.vocab * s.width);
  add_both(cases, "linear_cross_entropy" + suffix, {hidden, table}, 0, 0, product, 2 * product,
           [=](const auto& in) { return linear_cross_entropy(in[0], in[1], {}, targets).sum; });

  const Tensor w1 = values({s.inner, s.width}, dtype);
  const double linear_flops = 2.0 * double(s.tokens) * double(s.inner * s.width);
  add_both(cases, "linear" + suffix, {x, w1}, 0, 0, linear_flops, 2 * linear_flops,
           [](const auto& in) { return linear(in[0], in[1]); });
  add_epilogues(cases, suffix, x, w1, linear_flops);

  const Tensor qkv = values({s.tokens, 3 * s.width}, dtype);
  for (const int64_t length : {int64_t(27), int64_t(64), int64_t(128)}) {
    const Packing packing = packed(s.tokens, length);
    const double flops = 4.0 * double(s.tokens) * double(length * s.width);
    add_both(cases, "attention " + std::to_string(length) + suffix, {qkv}, 4 * matrix, 8 * matrix, flops, 2.5 * flops,
             [=, heads = s.heads](const auto& in) {
               return self_attention(in[0], packing, {.heads = heads, .dropout = drop});
             });
  }
  const std::string causal = "attention causal " + std::to_string(s.long_length);
  const Tensor long_qkv = values({s.long_tokens, 3 * s.width}, dtype);
  add_long_attention(cases, causal + suffix, long_qkv, s.long_length, s.width / s.heads);
  if (dtype != DType::bf16) return cases;
  const Tensor wide_qkv = values({s.long_tokens, 3 * std::max<int64_t>(s.width, 128)}, dtype);
  add_long_attention(cases, causal + " wgmma" + suffix, wide_qkv, s.long_length, 64);
  add_long_attention(cases, causal + " heads of 128" + suffix, wide_qkv, s.long_length, 128);
  add_long_attention(cases, causal + " heads of 128 wgmma" + suffix, wide_qkv, s.long_length, 128);
  return cases;
}

/// Norm, clip factor and update of all parameters of a store.
std::vector<Case> optimizer_cases(int64_t size, bool mixed) {
  const auto store = std::make_shared<Parameters>(ParametersOptions{.mixed_precision = mixed, .device = Device::kCuda});
  store->add("w", {size}, init::constant(0.5));
  store->gradients().fill(0.01);
  store->mark_gradients_written();
  const auto prepare = [=] {
    StepState state = store->step();
    state.loss_count = 1;
    state.learning_rate = 1e-4;
    store->set_step(state);
  };
  prepare();
  clip_by_norm(*store, 1);
  const std::string suffix = mixed ? " with bf16 weights" : " f32";
  return {{"clip_by_norm" + suffix, {double(size) * 4}, 0, timed([=] { clip_by_norm(*store, 1); })},
          {"adam" + suffix, {double(size) * (mixed ? 30 : 28)}, 0, timed([=] { adam_update(*store, {}); })}};
}

Roofs measure_roofs(Stopwatch& watch, const Copy& copies, int64_t copied, bool small) {
  const int64_t side = small ? 64 : 8192;
  const Tensor a = values({side, side}, DType::bf16), b = values({side, side}, DType::bf16);
  const double bytes = 2.0 * double(copied), flops = 2.0 * double(side * side) * double(side);
  const Percentiles copy_time = copies.measure(watch, bytes);
  const Percentiles product_time = watch.measure(timed([&] { matmul(a, b, {.transpose_b = true}); }));
  const Roofs roofs{bytes / copy_time.median, flops / product_time.median};
  bench::print("copy roof", bytes, 0, copy_time, roofs);
  bench::print("gemm roof bf16", 0, flops, product_time, roofs);
  return roofs;
}

}  // namespace

int main(int argc, char** argv) {
  bool small = false;
  std::string filter;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--small"))
      small = true;
    else if (!std::strcmp(argv[i], "--filter") && i + 1 < argc)
      filter = argv[++i];
    else
      return std::fprintf(stderr, "usage: gpu_bench [--small] [--filter TEXT]\n"), 2;
  }
  if (!cuda_available()) return std::fprintf(stderr, "gpu_bench: no CUDA device here\n"), 1;
  std::fprintf(stderr, "%s\n", describe(Device::kCuda).c_str());
  try {
    Stopwatch watch(small ? 1 << 10 : 1 << 27);
    const int64_t copied = int64_t(1) << (small ? 16 : 30);
    const Copy copy(copied);
    const Roofs roofs = measure_roofs(watch, copy, copied, small);
    const Sizes sizes =
        small ? Sizes{128, 64, 2, 96, 96, 3000, 160, 160} : Sizes{16384, 512, 8, 32000, 2048, 61'000'000, 8192, 2048};
    std::vector<Case> cases = optimizer_cases(sizes.parameters, false);
    for (Case& c : optimizer_cases(sizes.parameters, true)) cases.push_back(std::move(c));
    const bool wgmma_asked_for = kernels::hopper_attention();
    bool any = false;
    const auto run_all = [&](const std::vector<Case>& all) {
      for (const Case& c : all) {
        kernels::set_hopper_attention(wants_wgmma(c));
        if (c.name.find(filter) == std::string::npos) continue;
        measure_and_print(c, watch, roofs, copy);
        any = true;
      }
    };
    run_all(cases);
    cases.clear();
    if (!filter.starts_with("step"))  // their inputs take seconds to make, and no case is called so
      for (const DType dtype : {DType::bf16, DType::f32}) run_all(make_cases(sizes, dtype));
    kernels::set_hopper_attention(wgmma_asked_for);
    any |= bench::run_steps(roofs, small, filter);
    if (!any)
      return std::fprintf(stderr, "gpu_bench: no case has '%s' in its name; without --filter it prints them all\n",
                          filter.c_str()),
             2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
