// Shared by the translation units of CDICOM; not visible to Swift.
#pragma once

#include "CDICOM.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace cdicom {

/// The only exception of this target. Never leaves it: `guarded` turns it into a `cdicom_error`.
struct Failure {
    const char *code;
    char message[256];
    __attribute__((format(printf, 3, 4))) Failure(const char *code, const char *format, ...) : code(code) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message, sizeof message, format, arguments);
        va_end(arguments);
    }
};

/// Every entry point from Swift runs in here.
template <class Result, class Work>
Result guarded(cdicom_error *error, Result failed, Work work) noexcept {
    error->code[0] = error->message[0] = 0;
    auto set = [error](const char *code, const char *message) {
        snprintf(error->code, sizeof error->code, "%s", code);
        snprintf(error->message, sizeof error->message, "%s", message);
    };
    try {
        return work();
    } catch (const Failure &failure) {
        set(failure.code, failure.message);
    } catch (const std::bad_alloc &) {
        set("out-of-memory", "Not enough memory to read this object.");
    } catch (const std::exception &exception) {
        set("decode-failed", exception.what());
    } catch (...) {
        set("decode-failed", "A codec failed without saying why.");
    }
    return failed;
}

/// Bytes that are written before they are read: not cleared.
struct Bytes {
    std::unique_ptr<uint8_t[]> storage;
    size_t count = 0;
    Bytes() = default;
    explicit Bytes(size_t count) : storage(new uint8_t[count ? count : 1]), count(count) {}
    uint8_t *data() { return storage.get(); }
    const uint8_t *data() const { return storage.get(); }
};

/// Largest single allocation that an object of `fileBytes` may cause (a compressed bomb ends in an error instead).
inline size_t allocationLimit(size_t fileBytes) { return fileBytes * 8 + (size_t(64) << 20); }

/// Where the bytes of a data set come from: a whole object in memory, or a file of which the front is in memory.
/// Parsing extends the front as far as it needs, so addresses are stable only once parsing is over.
class Source {
public:
    static std::shared_ptr<Source> ofFile(const char *path);
    static std::shared_ptr<Source> ofBytes(const void *bytes, size_t count);
    static std::shared_ptr<Source> ofDeflated(const Source &file, size_t from);
    ~Source();

    size_t size() const { return total; }
    /// Makes [0, end) available in memory; false past the end of the object.
    bool require(size_t end) { return end <= loaded || (end <= total && load(end)); }
    const uint8_t *front() const { return storage; }
    /// Copies any part of the object, straight from the file where it is not in memory. Throws when it is short.
    void read(size_t offset, size_t count, void *destination) const;
    /// The header is parsed: give back what was read ahead and close the file (it is reopened to read frames).
    void finishParsing();
    /// Opens the file once for several reads.
    void openForFrames() const;

private:
    Source() = default;
    bool load(size_t end);

    std::string path;
    uint8_t *storage = nullptr;
    size_t loaded = 0, capacity = 0, total = 0;
    mutable int descriptor = -1;
    int64_t modified = 0;
    uint64_t inode = 0;
};

struct Element {
    cdicom_tag tag;
    char vr[2];                 // as stored; {0, 0} where the file is implicit
    bool undefinedLength;
    uint64_t offset, length;    // of the value; for undefined length: without the delimiter
};

struct Encoding {
    bool isExplicit = true, isBigEndian = false;
};

/// Positions of the fragments of encapsulated pixel data.
struct Fragments {
    std::vector<std::pair<uint64_t, uint64_t>> items;   // offset, length of each fragment
    std::vector<uint64_t> itemTags;                     // offset of each fragment's item tag from the first one's
    std::vector<size_t> firstOfFrame;                   // one more than frames; index into items
    std::vector<uint64_t> frameLengths;                 // from the Extended Offset Table, else empty
};

enum : cdicom_tag {
    tagTransferSyntax = 0x00020010, tagCharacterSet = 0x00080005, tagSamples = 0x00280002, tagPhotometric = 0x00280004,
    tagPlanar = 0x00280006, tagFrames = 0x00280008, tagRows = 0x00280010, tagColumns = 0x00280011,
    tagBitsAllocated = 0x00280100, tagBitsStored = 0x00280101, tagHighBit = 0x00280102, tagPixelRepresentation = 0x00280103,
    tagExtendedOffsets = 0x7FE00001, tagExtendedLengths = 0x7FE00002,
    tagFloatPixels = 0x7FE00008, tagDoublePixels = 0x7FE00009, tagPixels = 0x7FE00010,
    tagItem = 0xFFFEE000, tagItemEnd = 0xFFFEE00D, tagSequenceEnd = 0xFFFEE0DD,
};

inline uint16_t read16(const uint8_t *p, bool big) { return big ? uint16_t(p[0] << 8 | p[1]) : uint16_t(p[1] << 8 | p[0]); }
inline uint32_t read32(const uint8_t *p, bool big) {
    return big ? uint32_t(read16(p, true)) << 16 | read16(p + 2, true) : uint32_t(read16(p + 2, false)) << 16 | read16(p, false);
}
inline uint64_t read64(const uint8_t *p, bool big) {
    return big ? uint64_t(read32(p, true)) << 32 | read32(p + 4, true) : uint64_t(read32(p + 4, false)) << 32 | read32(p, false);
}

/// `encodedFrame` puts an end-of-image marker behind the bytes, outside their count: CharLS searches for seconds in a
/// stream that ends without one.
constexpr size_t endMarkerBytes = 2;

/// What a codec must deliver.
struct FrameLayout {
    uint32_t rows, columns, samples;
    uint32_t bitsAllocated, bitsStored;
    uint32_t bytesPerSample;
    bool isSigned;
    bool isYBR;               // the header says that the encoded samples are YBR
    uint32_t frame;           // number for messages, from 1
    size_t limit;             // allocationLimit of the object
    size_t pixels() const { return size_t(rows) * columns; }
    size_t bytes() const { return pixels() * samples * bytesPerSample; }
};

/// What it delivered besides the samples.
struct Decoded {
    bool isRGB = false;       // the codec itself converted to RGB
    uint32_t precision = 0;   // bits per sample of the codestream; 0 if it does not say
};

void decodeRLE(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination);
Decoded decodeJPEG(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination);
Decoded decodeJPEGLS(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination);
Decoded decodeJPEG2000(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination);
/// Raw deflate stream of known size.
void inflateExactly(const uint8_t *from, size_t count, uint8_t *destination, size_t expected, uint32_t frame);

/// VR of the data dictionary as two letters.
void dictionaryVR(cdicom_tag tag, char vr[2]);
/// Values of a text element to UTF-8.
std::string toUTF8(const char *text, size_t count, const std::string &characterSet, bool isPersonName);

}  // namespace cdicom

struct cdicom_dataset {
    std::shared_ptr<cdicom::Source> source;
    std::vector<cdicom::Element> elements;
    cdicom::Encoding encoding;
    std::string transferSyntax;
    std::string characterSet;
    int depth = 0;
    int inheritedPixelRepresentation = 0;
    std::unique_ptr<cdicom::Fragments> fragments;

    const cdicom::Element *find(cdicom_tag tag) const;
    /// Stored or dictionary VR.
    std::pair<char, char> vrOf(const cdicom::Element &element) const;
    bool isBigEndian(const cdicom::Element &element) const { return encoding.isBigEndian && element.tag >> 16 != 2; }
    bool isInMemory(const cdicom::Element &element) const;
    size_t numbers(const cdicom::Element &element, double *values, size_t capacity) const;
    int pixelRepresentation() const;
    void describe(cdicom_image &image) const;
    const cdicom::Fragments &findFragments(const cdicom_image &image);
    cdicom::Bytes encodedFrame(const cdicom_image &image, uint32_t index);
};
