// What the memory of this machine can do: the least work that moves the bytes
// of an optimizer step. The benchmark holds every subject against it.
//
// No TensorFlow, no optimizer, no mathematics: one multiplication or addition
// per number, so that nothing but memory is timed. Each function has a knob of
// which the best setting differs between machines (`block`, `ahead`,
// `distance`); the benchmark tries several and keeps the fastest, because a
// limit that can be beaten is none.
#ifndef TF_OPTIM_CC_PYTHON_LIMITS_H_
#define TF_OPTIM_CC_PYTHON_LIMITS_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

// One binary for every machine: the loops are compiled for three instruction
// sets and the loader picks one. Only where GNU ifuncs exist.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && \
    !defined(__clang__)
#define TF_OPTIM_LIMITS_CLONES \
  __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define TF_OPTIM_LIMITS_CLONES
#endif

namespace tf_optim {
namespace limits {

// A team of threads that outlives the calls. The clock starts when all of its
// members are awake and spinning, so that waking them is not in the figure.
class Team {
 public:
  static Team& Shared() {
    static Team* team = new Team;  // never destroyed: threads use it to the end
    return *team;
  }

  // Calls body(0) ... body(parts - 1), each by the next thread that is free.
  // Returns the seconds from the start of the first to the end of the last.
  double Run(int threads, int parts, const std::function<void(int)>& body) {
    std::lock_guard<std::mutex> one_caller(caller_);
    Grow(threads - 1);
    ready_ = 0;
    done_ = 0;
    go_ = false;
    next_part_ = 0;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      members_ = threads;
      parts_ = parts;
      ++round_;
    }
    wake_.notify_all();
    SpinUntil(ready_, threads - 1);
    const auto start = std::chrono::steady_clock::now();
    go_.store(true, std::memory_order_release);
    Work(body);
    SpinUntil(done_, threads - 1);
    const std::chrono::duration<double> taken =
        std::chrono::steady_clock::now() - start;
    return taken.count();
  }

 private:
  static constexpr int kTurnsAwake = 20000;

  void Grow(int helpers) {
    while (helpers_ < helpers) {
      const int member = ++helpers_;
      std::thread([this, member] { Serve(member); }).detach();
    }
  }

  void Work(const std::function<void(int)>& body) {
    for (int part; (part = next_part_.fetch_add(1)) < parts_;) body(part);
  }

  void Serve(int member) {
    int64_t seen = 0;
    for (;;) {
      const std::function<void(int)>* body;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        if (member >= members_) continue;
        body = body_;
      }
      ready_.fetch_add(1, std::memory_order_acq_rel);
      int turns = 0;
      while (!go_.load(std::memory_order_acquire)) Spin(&turns);
      Work(*body);
      done_.fetch_add(1, std::memory_order_acq_rel);
    }
  }

  static void SpinUntil(const std::atomic<int>& count, int value) {
    int turns = 0;
    while (count.load(std::memory_order_acquire) != value) Spin(&turns);
  }

  // A machine with other work to do must get the core in the end.
  static void Spin(int* turns) {
    if (++*turns > kTurnsAwake) std::this_thread::yield();
  }

  std::mutex caller_, mutex_;
  std::condition_variable wake_;
  const std::function<void(int)>* body_ = nullptr;
  int64_t round_ = 0;
  int members_ = 0, helpers_ = 0, parts_ = 0;
  std::atomic<int> next_part_{0};
  std::atomic<int> ready_{0}, done_{0};
  std::atomic<bool> go_{false};
};

// A stream of floats; a 16-bit array of n numbers is one of n / 2.
struct Stream {
  float* data;
  int64_t size;
};

// Parts per thread: so many that a thread which is held up does not hold up the
// others for long.
constexpr int kParts = 16;

// A factor that the compiler does not know to be one.
inline float One() {
  static volatile float one = 1.0f;
  return one;
}

// Numbers of a cache line.
constexpr int64_t kLine = 16;

// Calls line(i, count) for the numbers [0, n), a cache line at a time, and asks
// memory for what is `ahead` behind each of the streams p, unless that is 0.
template <class Line, class... Streams>
__attribute__((always_inline)) inline void ForLines(int64_t n, int64_t ahead,
                                                    const Line& line,
                                                    const Streams*... p) {
  int64_t i = 0;
  if (ahead > 0) {
    for (; i + kLine <= n; i += kLine) {
      (__builtin_prefetch(p + i + ahead), ...);
      line(i, kLine);
    }
  }
  line(i, n - i);
}

// In each, `ahead` as above. Lambdas are inlined, so that they are compiled for
// the clone's instruction set.
TF_OPTIM_LIMITS_CLONES
inline void Scale(float* __restrict x, int64_t n, int64_t ahead, float factor) {
  const auto line = [&](int64_t i, int64_t count)
                        __attribute__((always_inline)) {
                          for (int64_t j = i; j < i + count; ++j)
                            x[j] *= factor;
                        };
  ForLines(n, ahead, line, x);
}

TF_OPTIM_LIMITS_CLONES
inline void Add(float* __restrict x, const float* __restrict y, int64_t n,
                int64_t ahead, float factor) {
  const auto line = [&](int64_t i, int64_t count)
                        __attribute__((always_inline)) {
                          for (int64_t j = i; j < i + count; ++j) {
                            x[j] = x[j] * factor + y[j];
                          }
                        };
  ForLines(n, ahead, line, x, y);
}

TF_OPTIM_LIMITS_CLONES
inline float Sum(const float* x, int64_t n, int64_t ahead) {
  float lanes[kLine] = {};
  float sum = 0.0f;
  const auto line = [&](int64_t i, int64_t count)
                        __attribute__((always_inline)) {
                          const int64_t end = i + count;
                          for (; i + kLine <= end; i += kLine) {
                            for (int64_t j = 0; j < kLine; ++j) {
                              lanes[j] += x[i + j];
                            }
                          }
                          for (; i < end; ++i) sum += x[i];
                        };
  ForLines(n, ahead, line, x);
  for (float lane : lanes) sum += lane;
  return sum;
}

// One variable of a dense pass: what is changed, and what is only read.
struct Variable {
  std::vector<Stream> rw, ro;

  int64_t Blocks(int64_t block) const {
    int64_t longest = 0;
    for (const auto* streams : {&rw, &ro})
      for (const Stream& s : *streams) longest = std::max(longest, s.size);
    return (longest + block - 1) / block;
  }
};

// One pass over variables; `backwards`, which the second of two passes profits
// from, the last part first.
struct DensePass {
  std::vector<Variable> variables;
  bool backwards;
};

// Block b of `blocks`: the variable's streams in turn, shorter ones by shorter
// blocks.
inline void OneBlock(const Variable& v, int64_t b, int64_t blocks,
                     int64_t ahead, float one) {
  const auto part = [b, blocks](const Stream& s) {
    const int64_t first = s.size * b / blocks;
    return Stream{s.data + first, s.size * (b + 1) / blocks - first};
  };
  for (size_t i = 0; i < v.rw.size(); ++i) {
    const Stream x = part(v.rw[i]);
    if (i < v.ro.size() && v.ro[i].size == v.rw[i].size) {
      Add(x.data, part(v.ro[i]).data, x.size, ahead, one);
    } else {
      Scale(x.data, x.size, ahead, one);
    }
  }
  for (size_t i = 0; i < v.ro.size(); ++i) {
    if (i < v.rw.size() && v.ro[i].size == v.rw[i].size) continue;
    const Stream y = part(v.ro[i]);
    // A use of the sum, so that the reads are not thrown away.
    volatile float kept = Sum(y.data, y.size, ahead);
    (void)kept;
  }
}

// Calls body(i, first, last) for the ranges of things i that lie within part p
// of `parts`; `ends` are the running totals of their sizes.
template <typename Body>
void ForPart(const std::vector<int64_t>& ends, int p, int parts,
             const Body& body) {
  const int64_t total = ends.empty() ? 0 : ends.back();
  int64_t at = total * p / parts;
  const int64_t last = total * (p + 1) / parts;
  size_t i = std::upper_bound(ends.begin(), ends.end(), at) - ends.begin();
  for (; at < last; ++i) {
    const int64_t begin = i == 0 ? 0 : ends[i - 1];
    const int64_t end = std::min(ends[i], last);
    if (end > at) body(i, at - begin, end - begin);
    at = end;
  }
}

// Reads, changes and writes back every number, as `steps` dense steps of
// `passes` each do. The threads share out the blocks of all variables together,
// in contiguous parts. `ahead`: how many numbers ahead memory is asked. Returns
// the seconds of all passes.
inline double DenseReadModifyWrite(const std::vector<DensePass>& passes,
                                   int64_t block, int threads, int steps,
                                   int64_t ahead) {
  const float one = One();
  const int parts = threads * kParts;
  std::vector<std::vector<int64_t>> ends(passes.size());
  for (size_t n = 0; n < passes.size(); ++n) {
    int64_t total = 0;
    for (const Variable& v : passes[n].variables)
      ends[n].push_back(total += v.Blocks(block));
  }
  double seconds = 0;
  for (int step = 0; step < steps; ++step) {
    for (size_t n = 0; n < passes.size(); ++n) {
      const DensePass& pass = passes[n];
      seconds += Team::Shared().Run(threads, parts, [&](int turn) {
        const int p = pass.backwards ? parts - 1 - turn : turn;
        ForPart(ends[n], p, parts, [&](size_t i, int64_t first, int64_t last) {
          const Variable& v = pass.variables[i];
          const int64_t blocks = v.Blocks(block);
          for (int64_t b = first; b < last; ++b)
            OneBlock(v, b, blocks, ahead, one);
        });
      });
    }
  }
  return seconds;
}

// A table of a step: its `dim` floats per row and those of its slots, the rows
// that are named, and the gradient.
struct Rows {
  std::vector<float*> rw, ro;   // of dim floats per row
  std::vector<float*> per_row;  // changed: one float per row
  int64_t dim;
  const int64_t* ids;  // each row once
  int64_t id_count;
  const float* grad;  // grad_rows x dim, all of them read, in order
  int64_t grad_rows;

  // What a thread's share is counted in.
  int64_t Weight() const { return std::max(id_count, grad_rows); }
};

// The rows first ... last - 1 of `r.ids`.
template <int64_t kDim>
TF_OPTIM_LIMITS_CLONES void SomeRows(const Rows& r, int64_t first, int64_t last,
                                     int64_t distance, float one) {
  const int64_t dim = kDim > 0 ? kDim : r.dim;
  const auto touch = [&](int64_t i) {
    for (const auto* tables : {&r.rw, &r.ro}) {
      for (float* table : *tables) {
        const float* row = table + r.ids[i] * dim;
        for (int64_t d = 0; d < dim; d += 16) __builtin_prefetch(row + d, 1);
      }
    }
    for (float* numbers : r.per_row) __builtin_prefetch(numbers + r.ids[i], 1);
  };
  for (int64_t i = first; i < std::min(first + distance, last); ++i) touch(i);
  int64_t k = r.grad_rows * first / r.id_count;
  for (int64_t i = first; i < last; ++i) {
    if (distance > 0 && i + distance < last) touch(i + distance);
    const int64_t row = r.ids[i] * dim;
    const int64_t end = r.grad_rows * (i + 1) / r.id_count;
    float* __restrict first_row = r.rw[0] + row;
    // Inlined, so that it is compiled for this clone's instruction set.
    const auto add = [&](const float* __restrict other)
                         __attribute__((always_inline)) {
                           for (int64_t d = 0; d < dim; ++d) {
                             first_row[d] = first_row[d] * one + other[d];
                           }
                         };
    for (; k < end; ++k) add(r.grad + k * dim);
    for (const float* table : r.ro) add(table + row);
    for (size_t s = 1; s < r.rw.size(); ++s) {
      float* __restrict other_row = r.rw[s] + row;
      for (int64_t d = 0; d < dim; ++d) other_row[d] *= one;
    }
    for (float* numbers : r.per_row) numbers[r.ids[i]] *= one;
  }
}

// One pass over tables.
using RowsPass = std::vector<Rows>;

// Reads, changes and writes back the rows that are named, and reads the
// gradients, as sparse steps do whose duplicates somebody else has found.
// `distance`: how many rows ahead memory is told of. Returns the seconds of all
// passes.
inline double RandomRows(const std::vector<RowsPass>& passes, int distance,
                         int threads) {
  const float one = One();
  const int parts = threads * kParts;
  double seconds = 0;
  for (const RowsPass& pass : passes) {
    std::vector<int64_t> ends;
    int64_t total = 0;
    for (const Rows& r : pass) ends.push_back(total += r.Weight());
    seconds += Team::Shared().Run(threads, parts, [&](int p) {
      ForPart(ends, p, parts, [&](size_t i, int64_t first, int64_t last) {
        const Rows& r = pass[i];
        auto* some_rows = &SomeRows<0>;
        if (r.dim == 16) some_rows = &SomeRows<16>;
        if (r.dim == 64) some_rows = &SomeRows<64>;
        some_rows(r, r.id_count * first / r.Weight(),
                  r.id_count * last / r.Weight(), distance, one);
      });
    });
  }
  return seconds;
}

}  // namespace limits
}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_LIMITS_H_
