#include "cc/cpu/packed.h"

#include <algorithm>
#include <cstring>

#include "cc/values/packed_simd.h"

namespace tf_optim {
namespace {

// Calls f(elements, codes, scale, count) for each block of rows [begin, end).
template <class IsaTag, class Float, class Byte, class F>
void ForEachBlock(Float* plain, Byte* packed, int64_t width, int64_t begin,
                  int64_t end, const F& f) {
  for (int64_t r = begin; r < end; ++r) {
    Byte* const row = packed + r * PackedRow{width}.bytes();
    for (int64_t c = 0; c < width; c += kPackedBlock) {
      f(plain + r * width + c, row + c,
        row + width + c / kPackedBlock * static_cast<int64_t>(sizeof(float)),
        std::min(kPackedBlock, width - c));
    }
  }
}

template <class IsaTag, bool is_signed>
void PackRows(const float* plain, int64_t width, int64_t begin, int64_t end,
              uint8_t* packed) {
  using Block = PackedBlock<IsaTag>;
  ForEachBlock<IsaTag>(
      plain, packed, width, begin, end,
      [](const float* from, uint8_t* codes, uint8_t* to_scale, int64_t count) {
        const float scale = Block::template Pack<is_signed>(
            from, count, Block::MostIn(from, count), Drawn(), codes);
        std::memcpy(to_scale, &scale, sizeof(scale));
      });
}

template <class IsaTag, bool is_signed>
void UnpackRows(const uint8_t* packed, int64_t width, int64_t begin,
                int64_t end, float* plain) {
  ForEachBlock<IsaTag>(
      plain, packed, width, begin, end,
      [](float* to, const uint8_t* codes, const uint8_t* of_scale,
         int64_t count) {
        float scale;
        std::memcpy(&scale, of_scale, sizeof(scale));
        float block[kPackedBlock + 32];  // more than `count` may be written
        PackedBlock<IsaTag>::template Unpack<is_signed>(codes, scale, count,
                                                        block);
        std::copy_n(block, count, to);
      });
}

template <class IsaTag>
void Pack(const float* plain, int64_t width, bool is_signed, int64_t begin,
          int64_t end, uint8_t* packed) {
  (is_signed ? &PackRows<IsaTag, true>
             : &PackRows<IsaTag, false>)(plain, width, begin, end, packed);
}

template <class IsaTag>
void Unpack(const uint8_t* packed, int64_t width, bool is_signed, int64_t begin,
            int64_t end, float* plain) {
  (is_signed ? &UnpackRows<IsaTag, true>
             : &UnpackRows<IsaTag, false>)(packed, width, begin, end, plain);
}

}  // namespace

template <class IsaTag>
const PackKernels& PackTable<IsaTag>::Get() {
  static constexpr PackKernels kernels = {&Pack<IsaTag>, &Unpack<IsaTag>};
  return kernels;
}

template struct PackTable<TFO_ISA>;

}  // namespace tf_optim
