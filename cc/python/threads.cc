#include "cc/python/threads.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace tf_optim {

ParallelFor ThreadsFor(int threads) {
  return [threads](int64_t total, double,
                   const std::function<void(int64_t, int64_t)>& body) {
    if (threads <= 1 || total <= 1) {
      if (total > 0) body(0, total);
      return;
    }
    const int64_t block = std::max<int64_t>(1, total / (threads * 4));
    std::atomic<int64_t> next{0};
    std::vector<std::exception_ptr> errors(threads);
    const auto work = [&](int number) {
      try {
        for (int64_t begin; (begin = next.fetch_add(block)) < total;) {
          body(begin, std::min(total, begin + block));
        }
      } catch (...) {  // a thread has nobody to catch it
        errors[number] = std::current_exception();
      }
    };
    std::vector<std::thread> pool;
    pool.reserve(threads);
    try {
      for (int i = 1; i < threads; ++i) pool.emplace_back(work, i);
    } catch (const std::system_error&) {  // then there are fewer
    }
    work(0);
    for (std::thread& thread : pool) thread.join();
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  };
}

}  // namespace tf_optim
