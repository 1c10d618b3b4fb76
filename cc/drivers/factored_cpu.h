// The second moment of a gradient by rows and columns (Adafactor), on the CPU:
// each of two passes over a list of gradients.
#ifndef TF_OPTIM_CC_DRIVERS_FACTORED_CPU_H_
#define TF_OPTIM_CC_DRIVERS_FACTORED_CPU_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/denormals.h"
#include "cc/rules/moments.h"

namespace tf_optim {

// A gradient: matrices one behind the other or, if `columns` is 0, a vector of
// `rows` elements, which has a mean of its own for each.
template <class T>
struct Factored {
  int64_t matrices = 1, rows = 1, columns = 0;
  const T* grad = nullptr;
  // Means per row or per element, and per column, of all matrices.
  const T *row_means = nullptr, *column_means = nullptr;

  bool is_vector() const { return columns == 0; }
  int64_t row_size() const { return is_vector() ? 1 : columns; }
};

namespace factored {

// Elements that are passed over at a time: the more of them, the less there is
// to add up afterwards.
inline constexpr int64_t kPiece = int64_t{1} << 17;
// Rows whose squares are added up in T before a double takes them.
inline constexpr int64_t kRowsInT = 64;
// The same for elements of a row.
inline constexpr int64_t kElementsInT = 256;

// Rows [begin, end) of an item's matrices: of one of them, or several whole
// ones.
struct Piece {
  size_t item;
  int64_t begin, end;
  bool is_part;  // of a matrix
};

// Numbers side by side, added up in an order that depends on nothing else.
template <class T>
struct Block {
  static constexpr int64_t kBytes = 64;
  static constexpr int64_t kLanes = kBytes / static_cast<int64_t>(sizeof(T));
  typedef T V __attribute__((vector_size(kBytes)));

  static void Load(const T* from, V* to) { std::memcpy(to, from, kBytes); }
  static void Store(const V& from, T* to) { std::memcpy(to, &from, kBytes); }
};

// Calls visit(begin, block) for whole blocks of [0, size), or visit(begin,
// count) for the elements behind the last. Returns the sum of what it adds to
// `lanes`, its last argument.
template <class T, class VisitBlock, class VisitRest>
double SumOver(int64_t size, const VisitBlock& visit_block,
               const VisitRest& visit_rest) {
  using B = Block<T>;
  double sum = 0;
  for (int64_t first = 0; first < size; first += kElementsInT) {
    const int64_t end = std::min(size, first + kElementsInT);
    typename B::V lanes = {};
    int64_t i = first;
    for (; i + B::kLanes <= end; i += B::kLanes) visit_block(i, &lanes);
    for (; i < end; ++i) {
      const int64_t lane = (i - first) % B::kLanes;
      lanes[lane] += visit_rest(i);
    }
    for (int64_t k = 0; k < B::kLanes; ++k) {
      sum += static_cast<double>(lanes[k]);
    }
  }
  return sum;
}

// What a list of gradients is cut into.
template <class T>
std::vector<Piece> PiecesOf(const std::vector<Factored<T>>& items) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < items.size(); ++i) {
    const Factored<T>& item = items[i];
    const int64_t rows = item.matrices * item.rows;
    const int64_t of_matrix = item.rows * item.row_size();
    if (rows * item.row_size() == 0) continue;
    const bool is_cut = !item.is_vector() && of_matrix > kPiece;
    const int64_t least = std::max<int64_t>(1, kPiece / item.row_size());
    const int64_t step =
        item.is_vector() || is_cut ? least : kPiece / of_matrix * item.rows;
    for (int64_t begin = 0; begin < rows;) {
      int64_t end = std::min(rows, begin + step);
      if (is_cut) {  // not into the next matrix
        end = std::min(end, begin / item.rows * item.rows + item.rows);
      }
      pieces.push_back({i, begin, end, is_cut});
      begin = end;
    }
  }
  return pieces;
}

// Runs body(number, piece) for all pieces.
template <class Body>
void ForPieces(const std::vector<Piece>& pieces, double cost,
               const ParallelFor& parallel_for, const Body& body) {
  if (pieces.empty()) return;
  const auto count = static_cast<int64_t>(pieces.size());
  parallel_for(count, cost / static_cast<double>(count),
               [&](int64_t begin, int64_t end) {
                 const ScopedFlushDenormals flush;
                 for (int64_t i = begin; i < end; ++i) body(i, pieces[i]);
               });
}

// Calls body(item, matrix, first, last) for each matrix that is cut, which
// pieces [first, last) are of.
template <class T, class Body>
void ForCutMatrices(const std::vector<Factored<T>>& items,
                    const std::vector<Piece>& pieces,
                    const ParallelFor& parallel_for, const Body& body) {
  std::vector<size_t> firsts;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    if (piece.is_part && piece.begin % items[piece.item].rows == 0) {
      firsts.push_back(i);
    }
  }
  if (firsts.empty()) return;
  parallel_for(static_cast<int64_t>(firsts.size()), 1e5,
               [&](int64_t begin, int64_t end) {
                 const ScopedFlushDenormals flush;
                 for (int64_t i = begin; i < end; ++i) {
                   const Piece& first = pieces[firsts[i]];
                   const int64_t rows = items[first.item].rows;
                   const int64_t matrix = first.begin / rows;
                   size_t last = firsts[i] + 1;
                   while (last < pieces.size() &&
                          pieces[last].item == first.item &&
                          pieces[last].begin / rows == matrix) {
                     ++last;
                   }
                   body(first.item, matrix, firsts[i], last);
                 }
               });
}

template <class T>
double CostOf(const std::vector<Factored<T>>& items, double per_element) {
  double elements = 0;
  for (const auto& item : items) {
    elements += static_cast<double>(item.matrices * item.rows) *
                static_cast<double>(item.row_size());
  }
  return elements * per_element;
}

// Adds the squares of rows of a matrix to `columns` and returns through
// visit(row, sum) those of each row.
template <class T, class Visit>
void AddSquares(const T* grad, int64_t rows, int64_t width, double* columns,
                const Visit& visit) {
  using B = Block<T>;
  std::vector<T> few(width);
  for (int64_t first = 0; first < rows; first += kRowsInT) {
    const int64_t end = std::min(rows, first + kRowsInT);
    std::fill(few.begin(), few.end(), T(0));
    T* const sums = few.data();
    for (int64_t r = first; r < end; ++r) {
      const T* const row = grad + r * width;
      visit(r, SumOver<T>(
                   width,
                   [&](int64_t i, typename B::V* lanes) {
                     typename B::V x, sum;
                     B::Load(row + i, &x);
                     B::Load(sums + i, &sum);
                     x *= x;
                     B::Store(sum + x, sums + i);
                     *lanes += x;
                   },
                   [&](int64_t i) {
                     const T square = row[i] * row[i];
                     sums[i] += square;
                     return square;
                   }));
    }
    for (int64_t c = 0; c < width; ++c) {
      columns[c] += static_cast<double>(sums[c]);
    }
  }
}

}  // namespace factored

// How means move: by `share` of the way to a square and `epsilon`.
template <class T>
struct MovingMeans {
  T share, epsilon;

  T operator()(T mean, T square) const {
    return Towards(mean, square + epsilon, share);
  }
  T operator()(T mean, double sum, int64_t count) const {
    return (*this)(mean, static_cast<T>(sum / static_cast<double>(count)));
  }
};

// Writes the means after a step, as long as those before: rows[i] and
// columns[i] of item i.
template <class T>
void MoveMeans(const std::vector<Factored<T>>& items,
               const MovingMeans<T>& moved, const std::vector<T*>& rows,
               const std::vector<T*>& columns,
               const ParallelFor& parallel_for) {
  const auto pieces = factored::PiecesOf(items);
  std::vector<std::vector<double>> parts(pieces.size());
  factored::ForPieces(
      pieces, factored::CostOf(items, 0.3), parallel_for,
      [&](int64_t number, const factored::Piece& piece) {
        const Factored<T>& item = items[piece.item];
        T* const row_means = rows[piece.item];
        if (item.is_vector()) {
          for (int64_t i = piece.begin; i < piece.end; ++i) {
            row_means[i] =
                moved(item.row_means[i], item.grad[i] * item.grad[i]);
          }
          return;
        }
        const int64_t width = item.columns;
        std::vector<double>& sums = parts[number];
        for (int64_t r = piece.begin; r < piece.end;) {
          const int64_t end =
              std::min(piece.end, r / item.rows * item.rows + item.rows);
          sums.assign(width, 0.0);
          factored::AddSquares(item.grad + r * width, end - r, width,
                               sums.data(), [&](int64_t i, double sum) {
                                 row_means[r + i] =
                                     moved(item.row_means[r + i], sum, width);
                               });
          if (!piece.is_part) {
            const int64_t at = r / item.rows * width;
            for (int64_t c = 0; c < width; ++c) {
              columns[piece.item][at + c] =
                  moved(item.column_means[at + c], sums[c], item.rows);
            }
          }
          r = end;
        }
      });
  factored::ForCutMatrices(
      items, pieces, parallel_for,
      [&](size_t i, int64_t matrix, size_t first, size_t last) {
        const Factored<T>& item = items[i];
        std::vector<double>& sums = parts[first];
        for (size_t p = first + 1; p < last; ++p) {
          for (int64_t c = 0; c < item.columns; ++c) sums[c] += parts[p][c];
        }
        const int64_t at = matrix * item.columns;
        for (int64_t c = 0; c < item.columns; ++c) {
          columns[i][at + c] =
              moved(item.column_means[at + c], sums[c], item.rows);
        }
      });
}

// Writes steps[i], the gradient over the root of the second moment, and
// squares[i], the sum of the step's squares.
template <class T>
void FactoredSteps(const std::vector<Factored<T>>& items,
                   const std::vector<T*>& steps, double* squares,
                   const ParallelFor& parallel_for) {
  using B = factored::Block<T>;
  const auto pieces = factored::PiecesOf(items);
  const auto root = [](T x) { return T(1) / std::sqrt(x); };
  const auto sum_rows = [](const T* means, int64_t count) {
    double sum = 0;
    for (int64_t r = 0; r < count; ++r) sum += static_cast<double>(means[r]);
    return sum;
  };
  // Of each matrix that is cut: the mean of its rows' means, and what columns
  // are multiplied by. Both lie with its first piece.
  std::vector<std::vector<T>> of_columns(pieces.size());
  std::vector<size_t> first_of(pieces.size());
  std::vector<T> means(pieces.size());
  const auto factors_of = [&](const Factored<T>& item, int64_t matrix,
                              std::vector<T>* factors) {
    factors->resize(item.columns);
    const T* const of = item.column_means + matrix * item.columns;
    for (int64_t c = 0; c < item.columns; ++c) (*factors)[c] = root(of[c]);
    const T* const rows = item.row_means + matrix * item.rows;
    return static_cast<T>(sum_rows(rows, item.rows) /
                          static_cast<double>(item.rows));
  };
  factored::ForCutMatrices(
      items, pieces, parallel_for,
      [&](size_t i, int64_t matrix, size_t first, size_t last) {
        means[first] = factors_of(items[i], matrix, &of_columns[first]);
        for (size_t p = first; p < last; ++p) first_of[p] = first;
      });
  std::vector<double> sums(pieces.size());
  factored::ForPieces(pieces, factored::CostOf(items, 0.5), parallel_for,
                      [&](int64_t number, const factored::Piece& piece) {
                        const Factored<T>& item = items[piece.item];
                        T* const to = steps[piece.item];
                        double sum = 0;
                        if (item.is_vector()) {
                          const T* const grad = item.grad + piece.begin;
                          const T* const v = item.row_means + piece.begin;
                          T* const step = to + piece.begin;
                          sums[number] = factored::SumOver<T>(
                              piece.end - piece.begin,
                              [&](int64_t i, typename B::V* lanes) {
                                typename B::V x;
                                for (int64_t k = 0; k < B::kLanes; ++k) {
                                  x[k] = grad[i + k] * root(v[i + k]);
                                }
                                B::Store(x, step + i);
                                *lanes += x * x;
                              },
                              [&](int64_t i) {
                                step[i] = grad[i] * root(v[i]);
                                return step[i] * step[i];
                              });
                          return;
                        }
                        const int64_t width = item.columns;
                        std::vector<T> own;
                        const std::vector<T>* factors = &own;
                        T mean = 0;
                        if (piece.is_part) {
                          factors = &of_columns[first_of[number]];
                          mean = means[first_of[number]];
                        }
                        for (int64_t r = piece.begin; r < piece.end; ++r) {
                          if (!piece.is_part && r % item.rows == 0) {
                            mean = factors_of(item, r / item.rows, &own);
                          }
                          const T of_row = root(item.row_means[r] / mean);
                          const T* const of_column = factors->data();
                          const T* const grad = item.grad + r * width;
                          T* const step = to + r * width;
                          sum += factored::SumOver<T>(
                              width,
                              [&](int64_t i, typename B::V* lanes) {
                                typename B::V x, factor;
                                B::Load(grad + i, &x);
                                B::Load(of_column + i, &factor);
                                x = x * of_row * factor;
                                B::Store(x, step + i);
                                *lanes += x * x;
                              },
                              [&](int64_t i) {
                                step[i] = grad[i] * of_row * of_column[i];
                                return step[i] * step[i];
                              });
                        }
                        sums[number] = sum;
                      });
  std::fill_n(squares, items.size(), 0.0);
  for (size_t p = 0; p < pieces.size(); ++p) squares[pieces[p].item] += sums[p];
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_FACTORED_CPU_H_
