/// Single modules and optimizers against PyTorch's: the same weights, inputs and upstream gradients (see README.md beside this file).
#include <functional>

#include "oracle_file.h"

namespace libtrain::testing {
namespace {

/// A case of modules.safetensors: makes the module in a store of its own, under the name "", and compares.
class Case {
 public:
  Case(const OracleFile& file, const std::string& name, DType dtype)
      : file_(file), name_(name), store({.dtype = dtype}) {}

  Tensor input(int i) {
    const Tensor x = file_.tensor(name_ + "/x" + std::to_string(i)).cast(store.dtype());
    inputs_.push_back(x);
    return x.set_requires_grad();
  }
  /// Loads PyTorch's weights into the module that was made in `store`, runs it, and holds output and all gradients to PyTorch's.
  void check(const std::function<Tensor()>& run, double tolerance) {
    load_weights(file_.path(), store, name_ + "/weights/");
    Tape tape;
    const Tensor y = run();
    CHECK(relative_difference(values_of(y), file_.values(name_ + "/y")) <= tolerance);
    tape.backward(y, file_.tensor(name_ + "/dy").cast(store.dtype()).reshape(y.shape()));
    for (size_t i = 0; i < inputs_.size(); ++i)
      CHECK(relative_difference(values_of(inputs_[i].grad()), file_.values(name_ + "/dx" + std::to_string(i))) <=
            tolerance);
    for (const auto& slot : store.slots()) {
      INFO(slot.name);
      CHECK(relative_difference(values_of(slot.value.grad()), file_.values(name_ + "/grads/" + slot.name)) <=
            tolerance);
    }
  }

 private:
  const OracleFile& file_;
  std::string name_;
  std::vector<Tensor> inputs_;

 public:
  Parameters store;
};

/// Makes a module, and runs it on the inputs of its case.
using Run = std::function<std::function<Tensor()>(Case&)>;

/// A module that maps one tensor to one tensor.
template <class Module, class... Arguments> Run plain(Arguments... arguments) {
  return [=](Case& c) {
    auto module = std::make_shared<Module>(c.store, "", arguments...);
    return [module, x = c.input(0)] { return (*module)(x); };
  };
}

Run sequential() {
  return [](Case& c) {
    auto net = std::make_shared<Sequential>(c.store, "");
    net->add<Linear>(5, 7).add(relu).add<LayerNorm>(7).add<Linear>(7, 3);
    return [net, x = c.input(0)] { return (*net)(x); };
  };
}

Run gru_cell() {
  return [](Case& c) {
    auto cell = std::make_shared<GRUCell>(c.store, "", 5, 6);
    return [cell, x = c.input(0), h = c.input(1)] { return (*cell)(x, h); };
  };
}

Run lstm_cell() {
  return [](Case& c) {
    auto cell = std::make_shared<LSTMCell>(c.store, "", 5, 6);
    const Tensor x = c.input(0), h = c.input(1), memory = c.input(2);
    return [cell, x, h, memory] {
      const LstmState next = (*cell)(x, {h, memory});
      return concat({next.h, next.c}, 1);
    };
  };
}

Run attention() {
  return [](Case& c) {
    auto module = std::make_shared<MultiHeadAttention>(c.store, "", 8, 2, 0.f);
    const int64_t lengths[] = {5, 5};
    return [module, x = c.input(0), packing = make_packing(lengths)] {
      return module->self(x.reshape({10, 8}), packing, false);
    };
  };
}

/// An optimizer's eight steps.
void check_steps(const OracleFile& file, const std::string& name, const Optimizer& optimizer) {
  INFO(name);
  Parameters parameters({.dtype = DType::f64});
  for (const auto& [i, shape] : {std::pair{0, Shape{3, 4}}, std::pair{1, Shape{5}}})
    parameters.add("p" + std::to_string(i), shape, init::constant(0))
        .copy_from(file.tensor(format_message("{}/start{}", name, i)));
  parameters.set_group([](const auto& slot) { return slot.name == "p1"; }, {.rate = 0.5, .decay = 0});
  for (int step = 0; step < 8; ++step) {
    for (size_t i = 0; i < 2; ++i)
      parameters.slice(parameters.gradients(), parameters.slots()[i])
          .copy_from(file.tensor(format_message("{}/gradient{}/{}", name, i, step)));
    parameters.mark_gradients_written();
    parameters.set_step({.updates = step, .learning_rate = 0.01, .loss_count = 1});
    clip_by_norm(parameters, 0);
    optimizer.update(parameters);
    for (size_t i = 0; i < 2; ++i)
      CHECK(relative_difference(values_of(parameters.slots()[i].value),
                                file.values(format_message("{}/after{}/{}", name, i, step))) <= 1e-13);
  }
}

}  // namespace

TEST_CASE("oracle: modules load PyTorch's weights by name and give its outputs and gradients", "[oracle]") {
  const OracleFile file("modules.safetensors");
  const std::pair<const char*, Run> cases[] = {{"linear", plain<Linear>(5, 3)}, {"layer_norm", plain<LayerNorm>(6)},
                                               {"sequential", sequential()},    {"gru_cell", gru_cell()},
                                               {"lstm_cell", lstm_cell()},      {"gru", plain<GRU>(5, 6, 2)},
                                               {"lstm", plain<LSTM>(5, 6, 2)},  {"attention", attention()}};
  for (const auto& [name, make] : cases)
    for (const DType dtype : {DType::f64, DType::f32}) DYNAMIC_SECTION(name << " in " << libtrain::name(dtype)) {
        Case c(file, name, dtype);
        const auto run = make(c);
        c.check(run, dtype == DType::f64 ? 1e-12 : 1e-5);
      }
}

TEST_CASE("oracle: optimizers with groups take PyTorch's steps", "[oracle]") {
  const OracleFile file("modules.safetensors");
  check_steps(file, "adamw",
              adam({.learning_rate = 0.01, .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-9, .weight_decay = 0.1}));
  check_steps(file, "sgd", sgd({.learning_rate = 0.01, .weight_decay = 0.1}));
  check_steps(file, "momentum", sgd({.learning_rate = 0.01, .momentum = 0.9, .weight_decay = 0.1}));
  check_steps(file, "nesterov", sgd({.learning_rate = 0.01, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true}));
}

}  // namespace libtrain::testing
