// RLE Lossless (PS3.5 Annex G): a PackBits segment for each byte plane of each sample, most significant byte first.
#include "Internal.hpp"
#include <algorithm>

namespace cdicom {

namespace {

/// Unpacks one segment to every `stride`-th byte. False unless it gives `count` bytes exactly.
template <size_t stride>
bool unpack(const uint8_t *from, const uint8_t *end, uint8_t *to, size_t count, size_t runtimeStride) {
    const size_t step = stride ? stride : runtimeStride;
    size_t made = 0;
    while (made < count) {
        if (from >= end) return false;
        const int control = int8_t(*from++);
        if (control >= 0) {
            const size_t run = size_t(control) + 1;
            if (run > size_t(end - from)) return false;
            if (run > count - made) return false;
            for (size_t i = 0; i < run; ++i) to[(made + i) * step] = from[i];
            from += run, made += run;
        } else if (control != -128) {
            if (from >= end) return false;
            const size_t run = size_t(1 - control);
            if (run > count - made) return false;
            const uint8_t value = *from++;
            for (size_t i = 0; i < run; ++i) to[(made + i) * step] = value;
            made += run;
        }
    }
    // Segments are padded with zeros, and some writers end them with the no-operation code −128; anything else is a picture larger
    // than the header says.
    return std::all_of(from, end, [](uint8_t byte) { return byte == 0 || byte == 0x80; });
}

}  // namespace

void decodeRLE(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination) {
    if (layout.bitsAllocated % 8 != 0) throw Failure("unsupported-transfer-syntax", "RLE needs whole bytes, but Bits Allocated (0028,0100) is %u.", layout.bitsAllocated);
    const size_t segments = size_t(layout.samples) * layout.bytesPerSample, count = layout.pixels();
    if (encoded.count < 64) throw Failure("decode-failed", "Frame %u: the RLE header is cut. Resend the object.", layout.frame);
    const uint8_t *bytes = encoded.data();
    if (read32(bytes, false) != segments)
        throw Failure("decode-failed", "Frame %u has %u RLE segments, but its samples need %zu. The stream is damaged or the header wrong.", layout.frame, read32(bytes, false), segments);
    for (size_t segment = 0; segment < segments; ++segment) {
        const size_t begin = read32(bytes + 4 * (segment + 1), false);
        const size_t end = segment + 1 < segments ? read32(bytes + 4 * (segment + 2), false) : encoded.count;
        if (begin < 64 || end > encoded.count || begin > end)
            throw Failure("decode-failed", "Frame %u: RLE segment %zu lies outside the stream. Resend the object.", layout.frame, segment + 1);
        const size_t sample = segment / layout.bytesPerSample, byte = layout.bytesPerSample - 1 - segment % layout.bytesPerSample;
        uint8_t *to = destination + sample * layout.bytesPerSample + byte;
        const bool isWhole = segments == 2 ? unpack<2>(bytes + begin, bytes + end, to, count, 2)
            : segments == 1 ? unpack<1>(bytes + begin, bytes + end, to, count, 1)
                            : unpack<0>(bytes + begin, bytes + end, to, count, segments);
        if (!isWhole) throw Failure("decode-failed", "Frame %u: RLE segment %zu is damaged or does not give exactly %zu samples. Resend the object.", layout.frame, segment + 1, count);
    }
}

}  // namespace cdicom
