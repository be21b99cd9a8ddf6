// Pixel data: description, fragments, decoding, sample clean-up (PS3.3 C.7.6.3, PS3.5 section 8 and Annex A).
#include "Internal.hpp"
#include <algorithm>
#include <charconv>
#include <cmath>

using namespace cdicom;

namespace {

enum class Coding { native, encapsulatedNative, rle, jpeg, jpegLS, jpeg2000, deflatedFrames, unsupported };

Coding codingOf(const std::string &syntax) {
    static const std::string prefix = "1.2.840.10008.1.2";
    if (syntax.rfind(prefix, 0) != 0) return Coding::unsupported;
    const std::string rest = syntax.substr(prefix.size());
    if (rest.empty() || rest == ".1" || rest == ".2" || rest == ".1.99") return Coding::native;
    if (rest == ".1.98") return Coding::encapsulatedNative;
    if (rest == ".5") return Coding::rle;
    if (rest == ".8.1") return Coding::deflatedFrames;
    for (const char *jpeg : {".4.50", ".4.51", ".4.53", ".4.55", ".4.57", ".4.70"}) if (rest == jpeg) return Coding::jpeg;
    if (rest == ".4.80" || rest == ".4.81") return Coding::jpegLS;
    for (const char *wavelet : {".4.90", ".4.91", ".4.201", ".4.202", ".4.203"}) if (rest == wavelet) return Coding::jpeg2000;
    return Coding::unsupported;
}

[[noreturn]] void refuseSyntax(const std::string &syntax) {
    throw Failure("unsupported-transfer-syntax", "Transfer Syntax UID (0002,0010): %.64s cannot be decoded to pixels. Send the object in another one, e.g. Explicit VR Little Endian.", syntax.c_str());
}

/// An attribute that must be present with one whole number.
uint32_t required(const cdicom_dataset &dataset, cdicom_tag tag, const char *name, uint32_t least, uint32_t most) {
    const Element *element = dataset.find(tag);
    if (!element) throw Failure("missing-attribute", "%s (%04X,%04X) is missing: the pixel data cannot be read without it.", name, tag >> 16, tag & 0xFFFF);
    double value = NAN;
    const size_t count = dataset.numbers(*element, &value, 1);
    if (count < 1 || !(value >= least && value <= most) || value != std::floor(value))
        throw Failure("bad-attribute", "%s (%04X,%04X) must be one whole number from %u to %u.", name, tag >> 16, tag & 0xFFFF, least, most);
    return uint32_t(value);
}

uint32_t optional(const cdicom_dataset &dataset, cdicom_tag tag, const char *name, uint32_t least, uint32_t most, uint32_t absent) {
    const Element *element = dataset.find(tag);
    return element && element->length > 0 ? required(dataset, tag, name, least, most) : absent;
}

bool startsWith(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/// Bytes of one native frame as stored; frames of one bit samples are not aligned to bytes.
uint64_t storedFrameBits(const cdicom_image &image) {
    uint64_t samples = uint64_t(image.rows) * image.columns * image.samples_per_pixel;
    if (!strcmp(image.photometric, "YBR_FULL_422")) samples = uint64_t(image.rows) * image.columns * 2;
    return samples * image.bits_allocated;
}

template <class Word> Word swapped(Word value) {
    if constexpr (sizeof(Word) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(Word) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(Word) == 8) return __builtin_bswap64(value);
    return value;
}

template <class Word> void swapWords(uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        Word word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        word = swapped(word);
        memcpy(bytes + i * sizeof word, &word, sizeof word);
    }
}

void swapSamples(uint8_t *bytes, size_t count, uint32_t bytesPerSample) {
    if (bytesPerSample == 2) swapWords<uint16_t>(bytes, count);
    if (bytesPerSample == 4) swapWords<uint32_t>(bytes, count);
    if (bytesPerSample == 8) swapWords<uint64_t>(bytes, count);
}

/// Stored cell → sample: shift down to bit 0, drop bits that are not stored, extend the sign (PS3.5 8.1.1).
template <class Signed> void cleanWords(uint8_t *bytes, size_t count, uint32_t shift, uint32_t bits, bool isSigned) {
    using Unsigned = std::make_unsigned_t<Signed>;
    const uint32_t left = sizeof(Signed) * 8 - bits - shift, right = sizeof(Signed) * 8 - bits;
    for (size_t i = 0; i < count; ++i) {
        Unsigned word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        word = Unsigned(word << left);
        word = isSigned ? Unsigned(Signed(word) >> right) : Unsigned(word >> right);
        memcpy(bytes + i * sizeof word, &word, sizeof word);
    }
}

void cleanSamples(uint8_t *bytes, size_t count, uint32_t bytesPerSample, uint32_t highBit, uint32_t bits, bool isSigned) {
    const uint32_t shift = highBit + 1 - bits;
    if (shift == 0 && bits == bytesPerSample * 8) return;
    if (bytesPerSample == 1) cleanWords<int8_t>(bytes, count, shift, bits, isSigned);
    if (bytesPerSample == 2) cleanWords<int16_t>(bytes, count, shift, bits, isSigned);
    if (bytesPerSample == 4) cleanWords<int32_t>(bytes, count, shift, bits, isSigned);
}

/// Planes of samples → pixels of samples.
void interleave(const uint8_t *planes, uint8_t *pixels, size_t count, uint32_t samples, uint32_t bytesPerSample) {
    for (uint32_t s = 0; s < samples; ++s)
        for (size_t i = 0; i < count; ++i)
            memcpy(pixels + (i * samples + s) * bytesPerSample, planes + (s * count + i) * bytesPerSample, bytesPerSample);
}

uint8_t clampedByte(int value) { return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value); }

/// PS3.3 C.7.6.3.1.2 (ITU-R BT.601, full range), in 16-bit fixed point as the JPEG codecs do it.
void convertYBR8(uint8_t *pixels, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        uint8_t *p = pixels + 3 * i;
        const int y = p[0], blue = p[1] - 128, red = p[2] - 128;
        p[0] = clampedByte(y + ((91881 * red + 32768) >> 16));
        p[1] = clampedByte(y + ((-22554 * blue - 46802 * red + 32768) >> 16));
        p[2] = clampedByte(y + ((116130 * blue + 32768) >> 16));
    }
}

void convertYBR16(uint8_t *pixels, size_t count, uint32_t bits) {
    const double middle = std::ldexp(1, int(bits) - 1), largest = std::ldexp(1, int(bits)) - 1;
    auto store = [largest](double value) { return uint16_t(std::min(std::max(std::floor(value + 0.5), 0.0), largest)); };
    for (size_t i = 0; i < count; ++i) {
        uint16_t p[3];
        memcpy(p, pixels + 6 * i, 6);
        const double y = p[0], blue = p[1] - middle, red = p[2] - middle;
        p[0] = store(y + 1.402 * red), p[1] = store(y - 0.344136 * blue - 0.714136 * red), p[2] = store(y + 1.772 * blue);
        memcpy(pixels + 6 * i, p, 6);
    }
}

void decodeNative(const cdicom_dataset &dataset, const cdicom_image &image, uint32_t index, uint8_t *destination) {
    const Element *element = dataset.find(tagPixels);
    cdicom_tag tag = tagPixels;
    if (!element) element = dataset.find(tag = tagFloatPixels);
    if (!element) element = dataset.find(tag = tagDoublePixels);
    const Source &source = *dataset.source;
    const uint64_t frameBits = storedFrameBits(image), firstBit = frameBits * index;
    const size_t count = size_t(image.rows) * image.columns, samples = count * image.samples_per_pixel;
    const bool big = dataset.encoding.isBigEndian;
    // Big endian OW swaps the bytes of each 16-bit word, whatever the size of the samples in it (PS3.5 Annex A.3).
    const bool isSwappedByWord = big && image.bits_allocated <= 8 && element->vr[0] == 'O' && element->vr[1] == 'W';
    source.openForFrames();

    if (image.bits_allocated <= 8) {
        const uint64_t firstByte = firstBit / 8, endByte = (firstBit + frameBits + 7) / 8;
        const bool isDirect = image.bits_allocated == 8 && !isSwappedByWord && strcmp(image.photometric, "YBR_FULL_422") != 0
            && !(image.planar_configuration == 1 && image.samples_per_pixel > 1);
        if (isDirect) {
            source.read(element->offset + firstByte, samples, destination);
        } else {
            const uint64_t from = isSwappedByWord ? firstByte & ~uint64_t(1) : firstByte;
            const uint64_t to = isSwappedByWord ? std::min<uint64_t>((endByte + 1) & ~uint64_t(1), element->length) : endByte;
            Bytes stored(to - from);
            source.read(element->offset + from, stored.count, stored.data());
            if (isSwappedByWord) swapWords<uint16_t>(stored.data(), stored.count / 2);
            const uint8_t *bytes = stored.data() + (firstByte - from);
            if (image.bits_allocated == 1) {
                const uint32_t skipped = uint32_t(firstBit % 8);
                for (size_t i = 0; i < samples; ++i) destination[i] = bytes[(i + skipped) / 8] >> ((i + skipped) % 8) & 1;
            } else if (!strcmp(image.photometric, "YBR_FULL_422")) {
                // Y1 Y2 CB CR for every two pixels; CB and CR hold for both (PS3.3 C.7.6.3.1.2).
                for (size_t i = 0; i < count; ++i) {
                    const uint8_t *pair = bytes + i / 2 * 4;
                    destination[3 * i] = pair[i % 2], destination[3 * i + 1] = pair[2], destination[3 * i + 2] = pair[3];
                }
            } else if (image.planar_configuration == 1 && image.samples_per_pixel > 1) {
                interleave(bytes, destination, count, image.samples_per_pixel, 1);
            } else {
                memcpy(destination, bytes, samples);
            }
        }
        return;
    }
    const size_t bytes = samples * image.bytes_per_sample;
    if (image.planar_configuration == 1 && image.samples_per_pixel > 1) {
        Bytes planes(bytes);
        source.read(element->offset + firstBit / 8, bytes, planes.data());
        interleave(planes.data(), destination, count, image.samples_per_pixel, image.bytes_per_sample);
    } else {
        source.read(element->offset + firstBit / 8, bytes, destination);
    }
    if (big) swapSamples(destination, samples, image.bytes_per_sample);
}

}  // namespace

void cdicom_dataset::describe(cdicom_image &image) const {
    memset(&image, 0, sizeof image);
    const Element *pixels = find(tagPixels);
    const Element *floats = find(tagFloatPixels), *doubles = find(tagDoublePixels);
    if (!pixels && !floats && !doubles) {
        if (!find(tagRows)) throw Failure("no-pixel-data", "This object holds no image.");
        throw Failure("no-pixel-data", "Pixel Data (7FE0,0010) is missing: the header describes an image, but it was not sent.");
    }
    const Coding coding = codingOf(transferSyntax);
    if (coding == Coding::unsupported) refuseSyntax(transferSyntax);
    image.rows = required(*this, tagRows, "Rows", 1, 65535);
    image.columns = required(*this, tagColumns, "Columns", 1, 65535);
    image.samples_per_pixel = required(*this, tagSamples, "Samples per Pixel", 1, 4);
    if (image.samples_per_pixel != 1 && image.samples_per_pixel != 3)
        throw Failure("bad-attribute", "Samples per Pixel (0028,0002) is %u; only 1 and 3 are in use.", image.samples_per_pixel);
    image.bits_allocated = required(*this, tagBitsAllocated, "Bits Allocated", 1, 64);
    image.is_float = !pixels;
    if (image.is_float) {
        const uint32_t bits = floats ? 32 : 64;
        if (image.bits_allocated != bits) throw Failure("bad-attribute", "Bits Allocated (0028,0100) is %u, but %s needs %u.", image.bits_allocated, floats ? "Float Pixel Data" : "Double Float Pixel Data", bits);
        image.bits_stored = bits, image.high_bit = bits - 1;
        image.is_signed = true;
        if (coding != Coding::native) throw Failure("unsupported-transfer-syntax", "Float Pixel Data must not be compressed (PS3.5 A.4).");
    } else {
        const uint32_t bits = image.bits_allocated;
        if (bits != 1 && bits != 8 && bits != 16 && bits != 32)
            throw Failure("bad-attribute", "Bits Allocated (0028,0100) is %u; 1, 8, 16 and 32 can be read.", bits);
        image.bits_stored = required(*this, tagBitsStored, "Bits Stored", 1, bits);
        image.high_bit = optional(*this, tagHighBit, "High Bit", 0, 63, image.bits_stored - 1);
        if (image.high_bit >= bits || image.high_bit + 1 < image.bits_stored)
            throw Failure("bad-attribute", "High Bit (0028,0102) is %u, which does not fit %u bits stored in %u.", image.high_bit, image.bits_stored, bits);
        image.is_signed = required(*this, tagPixelRepresentation, "Pixel Representation", 0, 1) == 1;
    }
    image.planar_configuration = image.samples_per_pixel > 1 ? optional(*this, tagPlanar, "Planar Configuration", 0, 1, 0) : 0;

    const Element *photometric = find(tagPhotometric);
    std::string interpretation;
    if (photometric && isInMemory(*photometric) && !photometric->undefinedLength) {
        const char *text = reinterpret_cast<const char *>(source->front() + photometric->offset);
        interpretation.assign(text, photometric->length);
        while (!interpretation.empty() && (interpretation.back() == ' ' || interpretation.back() == 0)) interpretation.pop_back();
    }
    static const char *const known[] = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"};
    if (interpretation.empty()) throw Failure("missing-attribute", "Photometric Interpretation (0028,0004) is missing: it is not known whether the smallest value is black or white.");
    if (std::none_of(std::begin(known), std::end(known), [&](const char *name) { return interpretation == name; }))
        throw Failure("unsupported-photometric", "Photometric Interpretation (0028,0004) is not one that can be shown. MONOCHROME1 and 2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_ICT and YBR_RCT are.");
    snprintf(image.photometric, sizeof image.photometric, "%s", interpretation.c_str());
    const bool isColor = startsWith(image.photometric, "RGB") || startsWith(image.photometric, "YBR");
    if (isColor != (image.samples_per_pixel == 3))
        throw Failure("bad-attribute", "Samples per Pixel (0028,0002) is %u, which does not go with Photometric Interpretation %s.", image.samples_per_pixel, image.photometric);
    if (startsWith(image.photometric, "YBR") && image.is_signed) throw Failure("bad-attribute", "YBR pixel data cannot be signed.");
    if (startsWith(image.photometric, "YBR") && image.bits_allocated != 8 && image.bits_allocated != 16)
        throw Failure("bad-attribute", "YBR pixel data of %u bits cannot be read.", image.bits_allocated);

    image.frames = 1;
    if (const Element *frames = find(tagFrames)) {
        double value = NAN;
        // Present and unusable is not the same as absent: the object says that it has frames, but not how many.
        if (numbers(*frames, &value, 1) < 1 || !(value >= 1 && value <= 2147483647) || value != std::floor(value))
            throw Failure("bad-attribute", "Number of Frames (0028,0008) must be a whole number of at least 1.");
        const char *text = reinterpret_cast<const char *>(source->front() + frames->offset);
        if (std::any_of(text, text + frames->length, [](char c) { return c == 'e' || c == 'E' || c == '.'; }))
            throw Failure("bad-attribute", "Number of Frames (0028,0008) must be a whole number of at least 1.");
        image.frames = uint32_t(value);
    }

    image.bytes_per_sample = std::max<uint32_t>(1, image.bits_allocated / 8);
    const uint64_t bytes = uint64_t(image.rows) * image.columns * image.samples_per_pixel * image.bytes_per_sample;
    if (bytes > allocationLimit(source->size()))
        throw Failure("too-large", "One frame of %u × %u pixels needs %llu bytes, more than eight times the object and 64 MiB. It is refused as damaged.", image.columns, image.rows, (unsigned long long)bytes);
    image.frame_bytes = size_t(bytes);
    const Element &data = *(pixels ? pixels : floats ? floats : doubles);
    image.is_encapsulated = coding != Coding::native;
    if (image.is_encapsulated != data.undefinedLength) {
        if (image.is_encapsulated)
            throw Failure("bad-pixel-length", "Transfer syntax %.64s needs encapsulated Pixel Data (7FE0,0010), but its length is explicit. The transfer syntax is wrong or the object damaged.", transferSyntax.c_str());
        throw Failure("bad-pixel-length", "Pixel Data (7FE0,0010) has no length, but transfer syntax %.64s is not encapsulated.", transferSyntax.c_str());
    }
    if (!image.is_encapsulated) {
        if (!strcmp(image.photometric, "YBR_FULL_422") && (image.bits_allocated != 8 || image.columns % 2 != 0))
            throw Failure("unsupported-photometric", "YBR_FULL_422 needs 8 bits and an even number of columns.");
        const uint64_t bits = storedFrameBits(image);
        const uint64_t needed = (bits * image.frames + 7) / 8;
        if (data.length < needed)
            throw Failure("bad-pixel-length", "Pixel Data (7FE0,0010) has %llu bytes, but %u frames of %u × %u pixels need %llu. The object is cut or its header wrong.",
                          (unsigned long long)data.length, image.frames, image.columns, image.rows, (unsigned long long)needed);
        if (data.length >= 2 * needed + 2)
            throw Failure("bad-pixel-length", "Pixel Data (7FE0,0010) has %llu bytes, but the header describes only %llu: the header is wrong.", (unsigned long long)data.length, (unsigned long long)needed);
    } else if (uint64_t(image.frames) > data.length / 8) {
        throw Failure("bad-pixel-length", "Number of Frames (0028,0008) is %u, more than Pixel Data of %llu bytes can hold.", image.frames, (unsigned long long)data.length);
    }
}

/// Finds where the fragments of each frame lie (PS3.5 A.4). A wrong offset table is ignored in favour of the streams' own markers.
const Fragments &cdicom_dataset::findFragments(const cdicom_image &image) {
    if (fragments) return *fragments;
    auto found = std::make_unique<Fragments>();
    const Element &data = *find(tagPixels);
    const uint64_t end = data.offset + data.length;
    uint64_t position = data.offset, origin = 0;
    std::vector<uint32_t> offsets;
    bool isFirst = true;
    source->openForFrames();
    for (;;) {
        uint8_t header[8];
        if (position + 8 > end) {
            // No sequence delimiter. Every fragment is whole, so nothing is missing; the count is checked below.
            break;
        }
        source->read(position, 8, header);
        const cdicom_tag tag = cdicom_tag(read16(header, encoding.isBigEndian)) << 16 | read16(header + 2, encoding.isBigEndian);
        const uint32_t length = read32(header + 4, encoding.isBigEndian);
        if (tag == tagSequenceEnd) break;
        if (tag != tagItem) throw Failure("bad-fragments", "Pixel Data (7FE0,0010): fragment %zu does not begin with an item tag. The object is damaged; resend it.", found->items.size() + 1);
        if (length > end - position - 8) throw Failure("truncated", "Pixel Data (7FE0,0010): fragment %zu says %u bytes, but the object ends before. Resend it.", found->items.size() + 1, length);
        if (isFirst) {
            if (length % 4 == 0 && length / 4 == image.frames) {
                Bytes table(length);
                source->read(position + 8, length, table.data());
                for (size_t i = 0; i < image.frames; ++i) offsets.push_back(read32(table.data() + 4 * i, encoding.isBigEndian));
            }
            origin = position + 8 + length;
            isFirst = false;
        } else {
            found->items.emplace_back(position + 8, length);
            found->itemTags.push_back(position - origin);
        }
        position += 8 + uint64_t(length);
    }
    const size_t count = found->items.size(), frames = image.frames;
    if (count == 0) throw Failure("bad-fragments", "Pixel Data (7FE0,0010) holds no fragment: the image was not sent.");
    if (count < frames) throw Failure("bad-fragments", "Number of Frames (0028,0008) is %zu, but Pixel Data holds %zu fragments. Frames are missing.", frames, count);

    auto &first = found->firstOfFrame;
    auto useOffsets = [&](auto &&offsetOf) {
        first.clear();
        for (size_t i = 0; i < frames; ++i) {
            auto at = std::lower_bound(found->itemTags.begin(), found->itemTags.end(), uint64_t(offsetOf(i)));
            if (at == found->itemTags.end() || *at != uint64_t(offsetOf(i))) return first.clear();
            const size_t fragment = size_t(at - found->itemTags.begin());
            if (i == 0 ? fragment != 0 : fragment <= first.back()) return first.clear();
            first.push_back(fragment);
        }
        first.push_back(count);
    };
    const Element *extended = find(tagExtendedOffsets), *lengths = find(tagExtendedLengths);
    if (frames == 1) {
        first = {0, count};
    } else if (extended && extended->length == frames * 8 && isInMemory(*extended)) {
        const uint8_t *table = source->front() + extended->offset;
        useOffsets([&](size_t i) { return read64(table + 8 * i, encoding.isBigEndian); });
    } else if (!offsets.empty()) {
        useOffsets([&](size_t i) { return offsets[i]; });
    }
    if (!first.empty() && lengths && lengths->length == frames * 8 && isInMemory(*lengths) && count == frames) {
        const uint8_t *table = source->front() + lengths->offset;
        for (size_t i = 0; i < frames; ++i) found->frameLengths.push_back(read64(table + 8 * i, encoding.isBigEndian));
    }
    if (first.empty() && count == frames) {
        for (size_t i = 0; i <= frames; ++i) first.push_back(i);
    }
    if (first.empty()) {
        // A new frame begins at a start-of-image marker after an end-of-image marker.
        const Coding coding = codingOf(transferSyntax);
        if (coding != Coding::jpeg && coding != Coding::jpegLS && coding != Coding::jpeg2000)
            throw Failure("bad-fragments", "Pixel Data (7FE0,0010) has %zu fragments for %zu frames and no usable offset table.", count, frames);
        bool hasEnded = true;
        for (size_t i = 0; i < count; ++i) {
            const auto [offset, length] = found->items[i];
            uint8_t head[2] = {0, 0}, tail[4] = {0, 0, 0, 0};
            source->read(offset, std::min<uint64_t>(2, length), head);
            const bool begins = head[0] == 0xFF && head[1] == (coding == Coding::jpeg2000 ? 0x4F : 0xD8);
            if (begins && hasEnded) first.push_back(i);
            const size_t last = size_t(std::min<uint64_t>(4, length));
            source->read(offset + length - last, last, tail + 4 - last);
            hasEnded = (tail[2] == 0xFF && tail[3] == 0xD9) || (tail[1] == 0xFF && tail[2] == 0xD9);
        }
        if (first.size() != frames || first.front() != 0)
            throw Failure("bad-fragments", "Pixel Data (7FE0,0010): %zu frames are stated, but %zu were found in %zu fragments.", frames, first.size(), count);
        first.push_back(count);
    }
    fragments = std::move(found);
    return *fragments;
}

Bytes cdicom_dataset::encodedFrame(const cdicom_image &image, uint32_t index) {
    const Fragments &found = findFragments(image);
    size_t total = 0;
    for (size_t i = found.firstOfFrame[index]; i < found.firstOfFrame[index + 1]; ++i) total += found.items[i].second;
    Bytes bytes(total + endMarkerBytes);
    bytes.count = total;
    size_t at = 0;
    for (size_t i = found.firstOfFrame[index]; i < found.firstOfFrame[index + 1]; ++i) {
        source->read(found.items[i].first, found.items[i].second, bytes.data() + at);
        at += found.items[i].second;
    }
    if (index < found.frameLengths.size() && found.frameLengths[index] <= total) bytes.count = size_t(found.frameLengths[index]);
    bytes.data()[bytes.count] = 0xFF, bytes.data()[bytes.count + 1] = 0xD9;
    return bytes;
}

namespace {

/// An overlay in bits of the pixel data: a Bit Position (60xx,0102) other than 0, and no data of its own.
bool hasEmbeddedOverlay(const cdicom_dataset &dataset) {
    for (cdicom_tag group = 0x60000000; group <= 0x601E0000; group += 0x00020000) {
        const Element *position = dataset.find(group | 0x0102);
        double bit = 0;
        if (position && !dataset.find(group | 0x3000) && dataset.numbers(*position, &bit, 1) == 1 && bit > 0) return true;
    }
    return false;
}

/// Samples as `cdicom_decode_frame` gives them; cells as stored, with whatever lies in their unused bits, unless `isClean`.
void decodeFrame(cdicom_dataset &dataset, const cdicom_image &image, uint32_t index, bool toRGB, bool isClean, uint8_t *destination, size_t capacity, char *photometric) {
    if (index >= image.frames) throw Failure("no-such-frame", "Frame %u was asked for, but the object has %u.", index + 1, image.frames);
    if (capacity < image.frame_bytes) throw Failure("buffer-too-small", "A frame needs %zu bytes, the buffer has %zu.", image.frame_bytes, capacity);
    const size_t count = size_t(image.rows) * image.columns, samples = count * image.samples_per_pixel;
    // YBR_RCT and YBR_ICT name the transform inside JPEG 2000, which the codec undoes.
    bool isYBR = startsWith(image.photometric, "YBR_FULL");
    uint32_t bits = image.bits_stored, highBit = image.high_bit;
    if (!image.is_encapsulated) {
        decodeNative(dataset, image, index, destination);
    } else {
        const FrameLayout layout{image.rows, image.columns, image.samples_per_pixel, image.bits_allocated, image.bits_stored,
                                 image.bytes_per_sample, image.is_signed, isYBR, index + 1, allocationLimit(dataset.source->size())};
        const Coding coding = codingOf(dataset.transferSyntax);
        if (image.bits_allocated == 1 && (coding == Coding::jpeg || coding == Coding::jpegLS))
            throw Failure("unsupported-transfer-syntax", "One-bit pixel data cannot be compressed with transfer syntax %.64s.", dataset.transferSyntax.c_str());
        const Bytes encoded = dataset.encodedFrame(image, index);
        Decoded decoded;
        switch (coding) {
        case Coding::rle:
            if (image.bits_allocated == 1) {
                // Each frame is packed by itself, as in encapsulated uncompressed pixel data.
                Bytes packed(size_t((storedFrameBits(image) + 7) / 8));
                decodeRLE(encoded, FrameLayout{1, uint32_t(packed.count), 1, 8, 8, 1, false, false, index + 1, layout.limit}, packed.data());
                for (size_t i = 0; i < samples; ++i) destination[i] = packed.data()[i / 8] >> (i % 8) & 1;
            } else {
                decodeRLE(encoded, layout, destination);
            }
            break;
        case Coding::jpeg: decoded = decodeJPEG(encoded, layout, destination); break;
        case Coding::jpegLS: decoded = decodeJPEGLS(encoded, layout, destination); break;
        case Coding::jpeg2000: decoded = decodeJPEG2000(encoded, layout, destination); break;
        case Coding::encapsulatedNative: case Coding::deflatedFrames: {
            const size_t stored = size_t((storedFrameBits(image) + 7) / 8);
            Bytes frame(stored);
            if (coding == Coding::deflatedFrames) {
                inflateExactly(encoded.data(), encoded.count, frame.data(), stored, index + 1);
            } else {
                if (encoded.count < stored) throw Failure("bad-pixel-length", "Frame %u has %zu bytes, but %zu are needed. Resend the object.", index + 1, encoded.count, stored);
                memcpy(frame.data(), encoded.data(), stored);
            }
            if (image.bits_allocated == 1) {
                for (size_t i = 0; i < samples; ++i) destination[i] = frame.data()[i / 8] >> (i % 8) & 1;
            } else if (!strcmp(image.photometric, "YBR_FULL_422")) {
                throw Failure("unsupported-photometric", "Encapsulated uncompressed YBR_FULL_422 is not supported.");
            } else if (image.planar_configuration == 1 && image.samples_per_pixel > 1) {
                interleave(frame.data(), destination, count, image.samples_per_pixel, image.bytes_per_sample);
            } else {
                memcpy(destination, frame.data(), stored);
            }
            break;
        }
        case Coding::native: case Coding::unsupported: refuseSyntax(dataset.transferSyntax);
        }
        if (decoded.isRGB) isYBR = false;
        // The codestream knows its own precision; its samples lie at bit 0 whatever High Bit says. Only where overlays share the
        // cells with the picture does the codestream hold both.
        if (decoded.precision && !(decoded.precision > image.bits_stored && hasEmbeddedOverlay(dataset))) bits = std::min(decoded.precision, image.bits_allocated), highBit = bits - 1;
    }
    if (isClean && image.bits_allocated > 1 && !image.is_float) cleanSamples(destination, samples, image.bytes_per_sample, highBit, bits, image.is_signed);
    const char *delivered = image.photometric;
    if (startsWith(image.photometric, "YBR")) {
        if (isYBR && toRGB) {
            if (image.bytes_per_sample == 1) convertYBR8(destination, count); else convertYBR16(destination, count, bits);
            isYBR = false;
        }
        delivered = isYBR ? "YBR_FULL" : "RGB";
    }
    snprintf(photometric, 20, "%s", delivered);
}

}  // namespace

// MARK: C interface

bool cdicom_describe(const cdicom_dataset *dataset, cdicom_image *image, cdicom_error *error) {
    return guarded(error, false, [&] {
        dataset->describe(*image);
        return true;
    });
}

bool cdicom_decode_frame(cdicom_dataset *dataset, uint32_t index, bool toRGB, void *into, size_t capacity, char *photometric, cdicom_error *error) {
    return guarded(error, false, [&] {
        cdicom_image image;
        dataset->describe(image);
        decodeFrame(*dataset, image, index, toRGB, true, static_cast<uint8_t *>(into), capacity, photometric);
        return true;
    });
}

bool cdicom_overlay_bit(cdicom_dataset *dataset, uint32_t index, uint32_t bit, uint8_t *mask, size_t capacity, cdicom_error *error) {
    return guarded(error, false, [&] {
        cdicom_image image;
        dataset->describe(image);
        const size_t count = size_t(image.rows) * image.columns;
        if (image.samples_per_pixel != 1 || image.is_float || (image.bits_allocated != 8 && image.bits_allocated != 16) || bit >= image.bits_allocated)
            throw Failure("bad-attribute", "Overlay Bit Position (60xx,0102) is %u, which is no bit of %u-bit pixels.", bit, image.bits_allocated);
        if (bit <= image.high_bit && bit + image.bits_stored > image.high_bit)
            throw Failure("bad-attribute", "Overlay Bit Position (60xx,0102) is %u, a bit of the picture itself.", bit);
        if (capacity < count) throw Failure("buffer-too-small", "An overlay needs %zu bytes, the buffer has %zu.", count, capacity);
        Bytes cells(image.frame_bytes);
        char photometric[20];
        decodeFrame(*dataset, image, index, false, false, cells.data(), cells.count, photometric);
        for (size_t i = 0; i < count; ++i) mask[i] = cells.data()[i * image.bytes_per_sample + bit / 8] >> (bit % 8) & 1;
        return true;
    });
}

bool cdicom_encoded_frame(cdicom_dataset *dataset, uint32_t index, void **bytes, size_t *length, cdicom_error *error) {
    return guarded(error, false, [&] {
        cdicom_image image;
        dataset->describe(image);
        if (index >= image.frames) throw Failure("no-such-frame", "Frame %u was asked for, but the object has %u.", index + 1, image.frames);
        if (!image.is_encapsulated) throw Failure("not-encapsulated", "The object is not compressed.");
        const Bytes encoded = dataset->encodedFrame(image, index);
        *bytes = malloc(encoded.count ? encoded.count : 1);
        if (!*bytes) throw std::bad_alloc();
        memcpy(*bytes, encoded.data(), encoded.count);
        *length = encoded.count;
        return true;
    });
}
