// ShareAmong with pools that come late, never, or all at once.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "cc/kernels/share.h"

namespace tf_optim {
namespace {

void Check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "threads_test: %s\n", what);
  std::exit(1);
}

constexpr int64_t kTotal = 10007;
constexpr double kCost = 1000;  // nanoseconds each: worth all threads

// How often each of `total` was worked on.
std::vector<int> Worked(const ParallelFor& share, int64_t total, double cost) {
  std::vector<std::atomic<int>> counts(total);
  share(total, cost, [&](int64_t begin, int64_t end) {
    Check(0 <= begin && begin < end && end <= total, "a block is within");
    for (int64_t i = begin; i < end; ++i) ++counts[i];
  });
  return std::vector<int>(counts.begin(), counts.end());
}

void CheckAllOnce(const std::vector<int>& counts) {
  for (int count : counts) Check(count == 1, "each is worked on once");
}

// Tasks that were handed over and have not been run.
struct Held {
  std::mutex lock;
  std::vector<Task> tasks;

  Schedule schedule() {
    return [this](Task task) {
      const std::lock_guard<std::mutex> guard(lock);
      tasks.push_back(std::move(task));
    };
  }
};

// Nobody comes: the caller does it all, and those who come when it is done, and
// the memory that they were to work on is gone, find nothing to do.
void TestLateHelpers() {
  Held held;
  const ParallelFor share = ShareAmong(8, held.schedule());
  CheckAllOnce(Worked(share, kTotal, kCost));
  Check(held.tasks.size() >= 7, "seven are asked for");
  Check(held.tasks.size() <= 14, "and at most once more");
  for (const Task& task : held.tasks) task();
}

// Helpers that work while they are being asked for.
void TestHelpersAtOnce() {
  int64_t ran = 0;
  const ParallelFor share = ShareAmong(4, [&](Task task) {
    ++ran;
    task();
  });
  CheckAllOnce(Worked(share, kTotal, kCost));
  Check(ran >= 3, "three are asked for");
}

// The caller waits for a helper that has taken a block and is slow with it.
void TestSlowHelper() {
  std::vector<std::thread> threads;
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> caller_is_done(false);
  std::atomic<int64_t> done(0);
  const ParallelFor share =
      ShareAmong(2, [&](Task task) { threads.emplace_back(std::move(task)); });
  share(kTotal, kCost, [&](int64_t begin, int64_t end) {
    if (std::this_thread::get_id() != caller) {
      Check(!caller_is_done, "its call has not returned");
      for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    }
    done += end - begin;
  });
  caller_is_done = true;
  Check(done == kTotal, "all is done when the call returns");
  for (std::thread& thread : threads) thread.join();
}

void TestManyRealThreads() {
  for (int64_t total : {1, 2, 15, 16, 17, 1000, 10007}) {
    for (int64_t pool : {1, 2, 3, 8, 64}) {
      std::vector<std::thread> threads;
      const ParallelFor share = ShareAmong(
          pool, [&](Task task) { threads.emplace_back(std::move(task)); });
      CheckAllOnce(Worked(share, total, 100000));
      for (std::thread& thread : threads) thread.join();
    }
  }
}

// Work too small to share, and none.
void TestNobodyIsAsked() {
  const ParallelFor share =
      ShareAmong(8, [](Task) { Check(false, "nobody is asked"); });
  CheckAllOnce(Worked(share, 100, 1));
  share(0, kCost, [](int64_t, int64_t) { Check(false, "there is nothing"); });
}

}  // namespace
}  // namespace tf_optim

int main() {
  tf_optim::TestNobodyIsAsked();
  tf_optim::TestLateHelpers();
  tf_optim::TestHelpersAtOnce();
  tf_optim::TestSlowHelper();
  tf_optim::TestManyRealThreads();
}
