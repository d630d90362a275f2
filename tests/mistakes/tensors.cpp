/// Mistakes with tensors, shapes, the tape and initial values.
#include "mistakes/mistakes.h"

namespace libtrain::testing {

std::vector<Mistake> tensor_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const auto f32 = [](const Shape& shape) { return Tensor::zeros(shape); };
  return {
      {"a handle without a tensor", kArgument, "is undefined", "[tensor]", "assign a tensor to it first",
       [] { Tensor().dtype(); }},
      {"too few values for a shape", kArgument, "3 values given for shape [2, 2]", "[tensor]",
       "as many as the product of its sizes",
       [] {
         Tensor::from({1.0f, 2.0f, 3.0f}, {2, 2});
       }},
      {"rows of different lengths", kArgument, "rows of 2 and of 1 values", "[tensor]", "make them of one length",
       [] {
         Tensor::from({{1.0f, 2.0f}, {3.0f}});
       }},
      {"elements read as another type", kArgument, "f32[2] read as i32", "[tensor]", "name its own type, or cast()",
       [=] { f32({2}).to_vector<int32_t>(); }},
      {"nine dimensions", kArgument, "got 9", "[shape]", "merge some into one",
       [=] {
         f32({1, 1, 1, 1, 1, 1, 1, 1, 1});
       }},
      {"a negative size", kArgument, "got [2, -3]", "[shape]", "worked out wrongly",
       [=] {
         f32({2, -3});
       }},
      {"sizes whose product overflows", kArgument, "got [4611686018427387904, 4]", "[shape]", "worked out wrongly",
       [=] {
         f32({int64_t(1) << 62, 4});
       }},
      {"a dimension that is not there", kArgument, "dimension 2 of [3, 4], which has 2", "[shape]",
       "from 0, or back from -1",
       [=] {
         f32({3, 4}).dim(2);
       }},
      {"reshape to another number of elements", kArgument, "f32[3] has 3 elements, shape [2, 2] needs 4", "[reshape]",
       "a size of -1 is worked out",
       [=] {
         f32({3}).reshape({2, 2});
       }},
      {"reshape with two unknown sizes", kArgument, "got 2", "[reshape]", "write the others out",
       [=] {
         f32({4}).reshape({-1, -1});
       }},
      {"reshape that leaves a remainder", kArgument, "6 elements of [6] do not divide by 4", "[reshape]",
       "change the other sizes",
       [=] {
         f32({6}).reshape({4, -1});
       }},
      {"rows beyond the end", kArgument, "got begin 1 and end 5 of f32[3, 2]", "[rows]", "one past the last row",
       [=] {
         f32({3, 2}).rows(1, 5);
       }},
      {"item of many", kArgument, "got f32[3]", "[item]", "reduce it with sum() or mean()", [=] { f32({3}).item(); }},
      {"copy of another shape", kArgument, "expected f32[3], got f32[4]", "[copy_from]", "reshape() and cast()",
       [=] { f32({3}).copy_from(f32({4})); }},
      {"a gradient for integers", kArgument, "got i32[2]", "[set_requires_grad]", "cast() converts",
       [] {
         Tensor::from({1, 2}, {2}).set_requires_grad();
       }},
      {"a gradient before backward", kArgument, "no gradient has been written for f32[2]", "[grad]",
       "backward() after it", [=] { f32({2}).set_requires_grad().grad(); }},
      {"backward of a vector", kArgument, "got f32[2]", "[backward]", "reduce it first",
       [=] {
         Tape tape;
         tape.backward(scale(f32({2}).set_requires_grad(), 2));
       }},
      {"backward of what no tape has seen", kArgument, "does not depend on anything recorded", "[backward] f32[]",
       "make the Tape before the forward pass",
       [=] {
         Tape tape;
         tape.backward(sum(f32({2})));
       }},
      {"no device in this build", Kind::kDeviceError, "no CUDA", "[device] this build", "configure with",
       [=] { f32({2}).to(Device::kCuda); }},

      {"xavier for a vector", kArgument, "got [5]", "[xavier_uniform]", "normal() and uniform() take any shape",
       [] { Parameters().add("w", {5}, init::xavier_uniform()); }},
      {"orthogonal for four dimensions", kArgument, "got [2, 2, 2, 2]", "[orthogonal]", "take any shape",
       [] {
         Parameters().add("w", {2, 2, 2, 2}, init::orthogonal());
       }},
      {"a misspelt initializer", kArgument, "'kaiming_unform'", "[init]", "did you mean 'kaiming_uniform'?",
       [] { init::by_name("kaiming_unform"); }},
      {"an initializer of another library", kArgument, "'truncated_lecun'", "[init]", "there are kaiming_normal",
       [] { init::by_name("truncated_lecun"); }},

      {"two parameters of one name", kArgument, "got 'w'", "[parameters] expected a new name", "one of its own",
       [] {
         Parameters parameters;
         parameters.add("w", {1}, init::constant(0));
         parameters.add("w", {1}, init::constant(0));
       }},
      {"a parameter without a name", kArgument, "got ''", "[parameters]", "every parameter needs one",
       [] { Parameters().add("", {1}, init::constant(0)); }},
      {"a misspelt parameter", kArgument, "none of the 1 parameters is named 'encoder.wieght'", "[parameters]",
       "did you mean 'encoder.weight'?",
       [] {
         Parameters parameters;
         parameters.add("encoder.weight", {1}, init::constant(0));
         parameters.get("encoder.wieght");
       }},
      {"a parameter that no name comes near", kArgument, "is named 'x'", "[parameters]", "str() lists them",
       [] { Parameters().get("x"); }},
      {"a store of integers", kArgument, "got i32", "[parameters] expected dtype", "mixed_precision computes in bf16",
       [] { Parameters parameters({.dtype = DType::i32}); }},
      {"mixed precision of f64", kArgument, "got dtype f64", "[parameters] mixed precision", "leave dtype as it is",
       [] { Parameters parameters({.dtype = DType::f64, .mixed_precision = true}); }},
      {"an average that is not kept", kArgument, "no average is kept", "[parameters]", ".average = true",
       [] { Parameters().swap_average(); }},
      {"a group that chooses nothing", kArgument, "none of the 0 parameters is chosen", "[set_group]",
       "str() lists them", [] { Parameters().set_group([](const auto&) { return true; }, {}); }},
      {"a group with a rate of zero", kArgument, "got 0", "[set_group] rate", "to stop updates: freeze",
       [] { Parameters().set_group([](const auto&) { return true; }, {.rate = 0}); }},
      {"a group that grows its weights", kArgument, "got -1", "[set_group] decay", "0 turns it off",
       [] { Parameters().set_group([](const auto&) { return true; }, {.decay = -1}); }},
      {"values of another model", kArgument, "w is missing", "[copy_values]", "with the same options, or map the names",
       [] {
         Parameters from, to;
         to.add("w", {1}, init::constant(0));
         to.copy_values(from);
       }},
      {"values of another shape", kArgument, "w is [2], expected [1]", "[copy_values]", "build both models",
       [] {
         Parameters from, to;
         from.add("w", {2}, init::constant(0));
         to.add("w", {1}, init::constant(0));
         to.copy_values(from);
       }},
  };
}

}  // namespace libtrain::testing
