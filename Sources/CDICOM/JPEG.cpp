// JPEG baseline, extended, progressive and lossless (ISO/IEC 10918-1) through DCMTK's three IJG builds.
#include "Internal.hpp"
#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmjpeg/djcparam.h"
#include "dcmtk/dcmjpeg/djdijg12.h"
#include "dcmtk/dcmjpeg/djdijg16.h"
#include "dcmtk/dcmjpeg/djdijg8.h"

namespace cdicom {

namespace {

/// What the markers before the first scan say.
struct StreamFacts {
    uint32_t precision = 0, rows = 0, columns = 0, components = 0, process = 0, scans = 0;
    int adobeTransform = -1;
    bool hasJFIF = false, hasRGBNames = false;
};

[[noreturn]] void damaged(const FrameLayout &layout, const char *what) {
    throw Failure("decode-failed", "Frame %u: %s. The JPEG stream is damaged or cut; resend the object.", layout.frame, what);
}

/// Walks the marker segments. DCMTK's own search for the bit depth may never end on damaged streams.
StreamFacts examine(const Bytes &encoded, const FrameLayout &layout) {
    const uint8_t *bytes = encoded.data();
    const size_t count = encoded.count;
    StreamFacts facts;
    if (count < 4 || bytes[0] != 0xFF || bytes[1] != 0xD8) damaged(layout, "there is no start of image");
    size_t at = 2;
    for (;;) {
        if (at + 4 > count || bytes[at] != 0xFF) damaged(layout, "a marker is missing");
        while (at + 4 < count && bytes[at + 1] == 0xFF) ++at;
        const uint8_t marker = bytes[at + 1];
        if (marker == 0xD8 || marker == 0xD9 || marker == 0 || marker == 0xFF || (marker >= 0xD0 && marker <= 0xD7)) damaged(layout, "a marker is misplaced");
        const size_t length = size_t(bytes[at + 2]) << 8 | bytes[at + 3];
        if (length < 2 || length > count - at - 2) damaged(layout, "a marker segment is longer than the stream");
        const uint8_t *segment = bytes + at + 4;
        const size_t size = length - 2;
        if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) {
            if (facts.process) damaged(layout, "there are two frame headers");
            if (size < 6 || size < 6 + 3 * size_t(segment[5])) damaged(layout, "the frame header is cut");
            facts.process = marker;
            facts.precision = segment[0];
            facts.rows = uint32_t(segment[1]) << 8 | segment[2], facts.columns = uint32_t(segment[3]) << 8 | segment[4];
            facts.components = segment[5];
            facts.hasRGBNames = facts.components == 3 && segment[6] == 'R' && segment[9] == 'G' && segment[12] == 'B';
        } else if (marker == 0xEE && size >= 12 && !memcmp(segment, "Adobe", 5)) {
            facts.adobeTransform = segment[11];
        } else if (marker == 0xE0 && size >= 5 && !memcmp(segment, "JFIF", 5)) {
            facts.hasJFIF = true;
        } else if (marker == 0xDA) {
            break;
        }
        at += 2 + length;
    }
    if (!facts.process) damaged(layout, "the frame header is missing");
    for (; at + 1 < count; ++at) if (bytes[at] == 0xFF && bytes[at + 1] == 0xDA) ++facts.scans;
    return facts;
}

/// A damaged stream makes the IJG code warn and invent the rest of the picture: here a warning is an error.
template <class Decoder> struct Strict final : Decoder {
    mutable bool hasWarned = false;
    Strict(const DJCodecParameter &parameter, OFBool isYBR) : Decoder(parameter, isYBR) {}
    void emitMessage(int level) const override { if (level < 0) hasWarned = true; }
};

template <class Decoder>
void run(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination, size_t capacity) {
    static const DJCodecParameter asStored(ECC_lossyYCbCr, EDC_never, EUC_never, EPC_colorByPixel);
    Strict<Decoder> decoder(asStored, layout.isYBR);
    OFCondition state = decoder.init();
    if (state.good()) {
        // Not padded streams may end without the end-of-image marker being seen: hand over the marker once more.
        state = decoder.decode(const_cast<Uint8 *>(encoded.data()), Uint32(encoded.count), destination, Uint32(capacity), layout.isSigned);
    }
    if (state.bad()) damaged(layout, state.text());
    if (decoder.hasWarned) damaged(layout, "the entropy-coded data is corrupt");
}

}  // namespace

Decoded decodeJPEG(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination) {
    const StreamFacts facts = examine(encoded, layout);
    if (facts.rows != layout.rows || facts.columns != layout.columns || facts.components != layout.samples)
        throw Failure("decode-failed", "Frame %u: the JPEG stream has %u × %u pixels of %u samples, the header %u × %u of %u.", layout.frame,
                      facts.columns, facts.rows, facts.components, layout.columns, layout.rows, layout.samples);
    const bool isLossless = facts.process == 0xC3;
    if (!isLossless && facts.process != 0xC0 && facts.process != 0xC1 && facts.process != 0xC2)
        throw Failure("unsupported-transfer-syntax", "Frame %u: JPEG process SOF%u is not in use in DICOM and not supported.", layout.frame, facts.process - 0xC0);
    if (isLossless ? facts.precision < 2 || facts.precision > 16 : facts.precision != 8 && facts.precision != 12)
        throw Failure("decode-failed", "Frame %u: a JPEG precision of %u bits is not possible in this process.", layout.frame, facts.precision);
    if (facts.precision > layout.bytesPerSample * 8)
        throw Failure("decode-failed", "Frame %u: the JPEG stream has %u bits, but Bits Allocated (0028,0100) is %u.", layout.frame, facts.precision, layout.bitsAllocated);
    // Each scan of a progressive stream goes over the whole picture.
    if (facts.scans > 64) throw Failure("decode-failed", "Frame %u: the JPEG stream has %u scans. It is refused as damaged.", layout.frame, facts.scans);
    if (encoded.count > UINT32_MAX || layout.bytes() > UINT32_MAX) throw Failure("too-large", "Frame %u: a JPEG frame above 4 GiB is not supported.", layout.frame);

    const size_t samples = layout.pixels() * layout.samples, decodedBytes = facts.precision <= 8 ? 1 : 2;
    Bytes wide;
    uint8_t *target = destination;
    if (decodedBytes != layout.bytesPerSample) {
        wide = Bytes(samples * decodedBytes);
        target = wide.data();
    }
    if (facts.precision <= 8) run<DJDecompressIJG8Bit>(encoded, layout, target, samples);
    else if (facts.precision <= 12) run<DJDecompressIJG12Bit>(encoded, layout, target, samples * 2);
    else run<DJDecompressIJG16Bit>(encoded, layout, target, samples * 2);
    if (target != destination) {
        for (size_t i = 0; i < samples; ++i) {
            uint16_t value = decodedBytes == 1 ? target[i] : 0;
            if (decodedBytes == 2) memcpy(&value, target + 2 * i, 2);
            if (layout.bytesPerSample == 2) {
                memcpy(destination + 2 * i, &value, 2);
            } else {
                const uint32_t larger = value;
                memcpy(destination + 4 * i, &larger, 4);
            }
        }
    }
    Decoded decoded;
    decoded.precision = facts.precision;
    // The stream itself may say that it is RGB although the header says YBR (component names, Adobe marker).
    decoded.isRGB = facts.components == 3 && (facts.adobeTransform == 0 || (facts.adobeTransform < 0 && !facts.hasJFIF && facts.hasRGBNames));
    return decoded;
}

}  // namespace cdicom
