// What the C++ tests have in common. Most tests are in tests/, in Python; here
// is what only C++ can see.
#ifndef TF_OPTIM_CC_TESTS_TESTING_H_
#define TF_OPTIM_CC_TESTS_TESTING_H_

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

// Ends the test unless the condition holds.
#define EXPECT(condition)                                              \
  do {                                                                 \
    if (!(condition)) {                                                \
      std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, \
                   #condition);                                        \
      std::exit(1);                                                    \
    }                                                                  \
  } while (false)

namespace tf_optim {

// A thread for each task. Tasks may outlive what they were started for, so all
// are waited for at the end.
class Threads {
 public:
  ~Threads() {
    for (std::thread& thread : threads_) thread.join();
  }

  void Start(std::function<void()> task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    threads_.emplace_back(std::move(task));
  }

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_TESTS_TESTING_H_
