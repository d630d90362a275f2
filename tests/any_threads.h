/// That a result is the same with any number of threads.
#pragma once
#include <omp.h>

#include "catch.h"

namespace libtrain::testing {

/// While alive, the teams that this thread calls have so many threads.
class Threads {
 public:
  explicit Threads(int number) : before_(omp_get_max_threads()) { omp_set_num_threads(number); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;

 private:
  int before_;
};

/// What run() gives with one thread, having checked that it gives the same with more.
template <class F> auto same_with_any_threads(const F& run) {
  const auto with = [&](int number) {
    const Threads threads(number);
    return run();
  };
  const auto one = with(1);
  for (const int number : {2, 3, 5}) {
    INFO(number << " threads");
    const bool same = with(number) == one;  // Catch2 would take minutes to print results of a hundred thousand numbers
    CHECK(same);
  }
  return one;
}

}  // namespace libtrain::testing
