#pragma once
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "libtrain/parameters.h"

namespace libtrain {

/// One module after the other. Those with parameters are named by their place, as in torch.nn.Sequential: "0.weight", "2.weight"…
///
///   Sequential net(parameters, "net");                              // "net.0.weight", …, or for the name "": "0.weight"
///   net.add<Linear>(64, 128).add(relu).add<Dropout>(0.1f).add<Linear>(128, 10);
///   const Tensor logits = net(x);
class Sequential {
 public:
  /// Empty. What is added registers its parameters in `parameters`, which must outlive it, below `name`.
  Sequential(Parameters& parameters, const std::string& name) : parameters_(parameters), name_(name) {}

  /// Appends Module(parameters, "<name>.<place>", arguments…), or for a module without a name Module(parameters, arguments…): anything that
  /// maps a Tensor to a Tensor, and follows train() if it has such a function.
  template <class Module, class... Arguments> Sequential& add(Arguments... arguments) {
    return append([&] {
      if constexpr (std::is_constructible_v<Module, Parameters&, const std::string&, Arguments...>)
        return std::make_shared<Module>(parameters_, join_name(name_, std::to_string(steps_.size())), arguments...);
      else
        return std::make_shared<Module>(parameters_, arguments...);
    }());
  }
  /// Appends a function by its name, such as relu, gelu or tanh: of all functions of that name the one from a Tensor to a Tensor. It takes a place
  /// too.
  Sequential& add(Tensor (*f)(const Tensor&)) { return append_function(f); }
  /// Appends a lambda, say for a function with options ([](const Tensor& x) { return gelu(x, GeluForm::kTanh); }), or a module that was made
  /// elsewhere, which train() does not reach. It takes a place too. Both throw InvalidArgument for a function that is empty.
  template <class F>
  requires std::is_invocable_r_v<Tensor, F&, const Tensor&> Sequential& add(F f) {
    return append_function(std::move(f));
  }

  /// x → what the last module returns; x itself when there is none.
  Tensor operator()(Tensor x) const {
    for (const Step& step : steps_) x = step.apply(x);
    return x;
  }
  /// Passed on to every module that has train(bool).
  void train(bool on) {
    for (const Step& step : steps_) step.train(on);
  }
  /// Places taken, functions included.
  size_t size() const { return steps_.size(); }

 private:
  struct Step {
    std::function<Tensor(const Tensor&)> apply;
    std::function<void(bool)> train;
  };
  template <class Module> Sequential& append(std::shared_ptr<Module> module) {
    steps_.push_back({[module](const Tensor& x) { return (*module)(x); },
                      [module](bool on) {
                        if constexpr (requires { module->train(on); }) module->train(on);
                      }});
    return *this;
  }

  Sequential& append_function(std::function<Tensor(const Tensor&)> f) {
    LIBTRAIN_CHECK(f, "[sequential] add() got an empty function for place {}; leave the call out", steps_.size());
    steps_.push_back({std::move(f), [](bool) {}});
    return *this;
  }

  Parameters& parameters_;
  std::string name_;
  std::vector<Step> steps_;
};

}  // namespace libtrain
