#include "cc/kernels/share.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

namespace tf_optim {
namespace {

using Body = std::function<void(int64_t, int64_t)>;

// Blocks that any thread may take. A helper that the pool starts too late finds
// none left, and may outlive the step.
class SharedWork {
 public:
  SharedWork(int64_t total, int64_t block, const Body* body)
      : total_(total), block_(block), body_(body) {}

  // False if there are none left.
  bool TakeBlock() {
    const int64_t begin = next_.fetch_add(block_);
    if (begin >= total_) return false;
    const int64_t end = std::min(total_, begin + block_);
    try {
      (*body_)(begin, end);  // its owner waits for this block
    } catch (...) {          // a helper has nobody to catch it
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    if (done_.fetch_add(end - begin) + end - begin == total_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      all_done_ = true;
      wake_.notify_all();
    }
    return true;
  }

  void Help() {
    ++helpers_;
    while (TakeBlock()) continue;
  }

  int64_t helpers() const { return helpers_; }

  // Until all are done; throws what the first of them threw.
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return all_done_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t total_, block_;
  const Body* const body_;
  std::atomic<int64_t> next_{0}, done_{0}, helpers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool all_done_ = false;
  std::exception_ptr error_;
};

}  // namespace

// The pool's own ParallelFor hands everything over and sleeps: a step of a few
// hundred microseconds then loses a good part of them to waking up.
ParallelFor ShareAmong(int64_t pool_threads, Schedule pool) {
  return [pool_threads, pool = std::move(pool)](int64_t total, double cost,
                                                const Body& body) {
    if (total <= 0) return;
    constexpr double kWorthAThread = 10000;  // nanoseconds
    const double cost_of_all = cost * static_cast<double>(total);
    const int64_t threads = std::max<int64_t>(
        1, std::min({static_cast<int64_t>(cost_of_all / kWorthAThread),
                     pool_threads, total}));
    if (threads == 1) {
      body(0, total);
      return;
    }
    // Enough blocks to share evenly, and none so long that the threads work in
    // far apart places of memory: that costs bandwidth.
    constexpr double kBlocksPerThread = 16;
    constexpr double kLongestBlock = 50000;  // nanoseconds
    const int64_t block = std::max<int64_t>(
        1, static_cast<int64_t>(
               std::min(static_cast<double>(total) /
                            (static_cast<double>(threads) * kBlocksPerThread),
                        kLongestBlock / cost)));
    const auto work = std::make_shared<SharedWork>(total, block, &body);
    const auto ask_for = [&](int64_t helpers) {
      try {
        for (; helpers > 0; --helpers) pool([work] { work->Help(); });
      } catch (...) {  // then there are fewer
      }
    };
    ask_for(threads - 1);
    // A thread may be woken on the caller's core, where it waits until the
    // caller is done while another core is idle. Then one that slept elsewhere
    // helps.
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::microseconds kLate(60);  // most come after 35
    const Clock::time_point late = Clock::now() + kLate;
    bool asked_again = false;
    while (work->TakeBlock()) {
      if (asked_again || Clock::now() < late) continue;
      asked_again = true;
      ask_for(threads - 1 - work->helpers());
    }
    work->Wait();
  };
}

}  // namespace tf_optim
