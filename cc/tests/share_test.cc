// Work shared out among threads: each unit once, whatever the threads do, and
// what one of them throws comes to the caller.
#include "cc/kernels/share.h"

#include <atomic>
#include <new>
#include <stdexcept>
#include <thread>

#include "cc/tests/testing.h"

namespace tf_optim {
namespace {

constexpr double kDear = 1e6;  // nanoseconds a unit: worth a thread each

void EachUnitIsDoneOnce() {
  Threads pool;
  for (int64_t threads : {1, 2, 7}) {
    const ParallelFor parallel_for =
        ShareAmong(threads, [&](Task task) { pool.Start(std::move(task)); });
    for (int64_t total : {0, 1, 2, 5, 100, 1001}) {
      std::vector<std::atomic<int>> done(total);
      parallel_for(total, kDear, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++done[i];
      });
      for (const auto& times : done) EXPECT(times == 1);
    }
  }
}

void HelpersThatComeTooLateDoNothing() {
  std::vector<Task> late;
  const ParallelFor parallel_for =
      ShareAmong(4, [&](Task task) { late.push_back(std::move(task)); });
  int64_t done = 0;
  {
    const auto body = [&](int64_t begin, int64_t end) { done += end - begin; };
    parallel_for(50, kDear, body);
  }
  EXPECT(done == 50);
  EXPECT(!late.empty());
  for (Task& task : late) task();
  EXPECT(done == 50);
}

void WhatAThreadThrowsComesToTheCaller() {
  Threads pool;
  for (int round = 0; round < 20; ++round) {
    const bool in_helper = round % 2 == 0;
    const ParallelFor parallel_for =
        ShareAmong(4, [&](Task task) { pool.Start(std::move(task)); });
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<int64_t> done{0};
    std::atomic<bool> thrown{false};
    bool caught = false;
    try {
      parallel_for(200, kDear, [&](int64_t begin, int64_t end) {
        done += end - begin;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        const bool is_helper = std::this_thread::get_id() != caller;
        if (is_helper != in_helper || thrown.exchange(true)) return;
        throw std::bad_alloc();
      });
    } catch (const std::bad_alloc&) {
      caught = true;
    }
    EXPECT(caught == thrown);
    EXPECT(caught || in_helper);  // a helper may have come too late
    EXPECT(done == 200);          // nobody uses the body any more
  }
}

void APoolThatRefusesIsDoneWithout() {
  const ParallelFor parallel_for =
      ShareAmong(4, [](Task) { throw std::runtime_error("no threads"); });
  int64_t done = 0;
  parallel_for(50, kDear,
               [&](int64_t begin, int64_t end) { done += end - begin; });
  EXPECT(done == 50);
}

}  // namespace
}  // namespace tf_optim

int main() {
  tf_optim::EachUnitIsDoneOnce();
  tf_optim::HelpersThatComeTooLateDoNothing();
  tf_optim::WhatAThreadThrowsComesToTheCaller();
  tf_optim::APoolThatRefusesIsDoneWithout();
}
