// Parsing of data sets (PS3.5 section 7). Iterative: hostile nesting cannot exhaust the stack.
#include "Internal.hpp"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

using namespace cdicom;

namespace {

constexpr uint32_t undefined = 0xFFFFFFFF;
/// Sequences inside sequences; real objects stay below ten.
constexpr int deepest = 64;

constexpr uint16_t vr(char a, char b) { return uint16_t(uint8_t(a) << 8 | uint8_t(b)); }
uint16_t vrCode(const char *letters) { return vr(letters[0], letters[1]); }

bool isKnownVR(uint16_t code) {
    switch (code) {
    case vr('A', 'E'): case vr('A', 'S'): case vr('A', 'T'): case vr('C', 'S'): case vr('D', 'A'): case vr('D', 'S'): case vr('D', 'T'):
    case vr('F', 'L'): case vr('F', 'D'): case vr('I', 'S'): case vr('L', 'O'): case vr('L', 'T'): case vr('O', 'B'): case vr('O', 'D'):
    case vr('O', 'F'): case vr('O', 'L'): case vr('O', 'V'): case vr('O', 'W'): case vr('P', 'N'): case vr('S', 'H'): case vr('S', 'L'):
    case vr('S', 'Q'): case vr('S', 'S'): case vr('S', 'T'): case vr('S', 'V'): case vr('T', 'M'): case vr('U', 'C'): case vr('U', 'I'):
    case vr('U', 'L'): case vr('U', 'N'): case vr('U', 'R'): case vr('U', 'S'): case vr('U', 'T'): case vr('U', 'V'):
        return true;
    }
    return false;
}

bool hasLongLength(uint16_t code) {
    switch (code) {
    case vr('O', 'B'): case vr('O', 'D'): case vr('O', 'F'): case vr('O', 'L'): case vr('O', 'V'): case vr('O', 'W'): case vr('S', 'Q'):
    case vr('S', 'V'): case vr('U', 'C'): case vr('U', 'N'): case vr('U', 'R'): case vr('U', 'T'): case vr('U', 'V'):
        return true;
    }
    return false;
}

/// Header of one element; `next` is where the value begins.
struct Header {
    cdicom_tag tag;
    char vr[2];
    uint32_t length;
    uint64_t value;
};

[[noreturn]] void cut(uint64_t position) {
    throw Failure("truncated", "The object ends in the middle of an element at byte %llu. Resend it.", (unsigned long long)position);
}

Header readHeader(Source &source, uint64_t position, uint64_t end, Encoding encoding) {
    if (position + 8 > end || !source.require(position + 8)) cut(position);
    const uint8_t *p = source.front() + position;
    const bool big = encoding.isBigEndian;
    Header header{cdicom_tag(read16(p, big)) << 16 | read16(p + 2, big), {0, 0}, 0, position + 8};
    if (header.tag >> 16 == 0xFFFE || !encoding.isExplicit) {
        header.length = read32(p + 4, big);
        return header;
    }
    const uint16_t code = vr(char(p[4]), char(p[5]));
    header.vr[0] = char(p[4]), header.vr[1] = char(p[5]);
    bool isLong = hasLongLength(code);
    if (!isKnownVR(code)) {
        // A VR newer than this reader has the long form with two zero bytes (PS3.5 7.1.2); a damaged one keeps the form of
        // the VR it had. Two bytes that are not even letters say that this is no explicit VR data set.
        auto letter = [](uint8_t c) { return c >= 'A' && c <= 'Z'; };
        if (!(letter(p[4]) && letter(p[5])) && !(p[4] == 0 && p[5] == 0))
            throw Failure("malformed", "Element (%04X,%04X) has no valid VR. The file is damaged, or its transfer syntax is not the one it states.", header.tag >> 16, header.tag & 0xFFFF);
        isLong = p[6] == 0 && p[7] == 0;
        header.vr[0] = 'U', header.vr[1] = 'N';
    }
    if (!isLong) {
        header.length = read16(p + 6, big);
        return header;
    }
    if (position + 12 > end || !source.require(position + 12)) cut(position);
    header.length = read32(source.front() + position + 8, big);
    header.value = position + 12;
    return header;
}

Encoding encodingInside(const Header &header, Encoding encoding) {
    // The content of UN is implicit little endian, whatever the rest is (PS3.5 6.2.2).
    return header.vr[0] == 'U' && header.vr[1] == 'N' ? Encoding{false, false} : encoding;
}

/// End of the content of a sequence of undefined length that begins at `position`; its delimiter is eight bytes more.
uint64_t endOfSequence(Source &source, uint64_t position, uint64_t end, Encoding encoding) {
    struct Level {
        bool isItem;
        Encoding encoding;
    };
    Level levels[2 * deepest];
    int top = 0;
    levels[0] = {false, encoding};
    for (;;) {
        const Level level = levels[top];
        const Header header = readHeader(source, position, end, level.encoding);
        if (header.tag == (level.isItem ? tagItemEnd : tagSequenceEnd)) {
            if (top == 0) return position;
            --top;
            position = header.value;
        } else if (header.length == undefined) {
            if (!level.isItem && header.tag != tagItem) throw Failure("malformed", "A sequence holds (%04X,%04X) where an item belongs.", header.tag >> 16, header.tag & 0xFFFF);
            if (level.isItem && header.tag >> 16 == 0xFFFE) throw Failure("malformed", "A delimiter stands in the wrong place at byte %llu.", (unsigned long long)position);
            if (++top == 2 * deepest) throw Failure("nested-too-deep", "Sequences are nested more than %d deep at byte %llu. The object is refused.", deepest, (unsigned long long)position);
            levels[top] = {!level.isItem, level.isItem ? encodingInside(header, level.encoding) : level.encoding};
            position = header.value;
        } else {
            if ((header.tag >> 16 == 0xFFFE) == level.isItem || (!level.isItem && header.tag != tagItem))
                throw Failure("malformed", "An item or delimiter is missing or misplaced at byte %llu.", (unsigned long long)position);
            position = header.value + header.length;
            if (position > end) cut(header.value);
        }
    }
}

/// Items of a sequence of known length must fill it exactly. Their content is parsed when it is asked for.
void checkItems(Source &source, const Header &header, Encoding encoding) {
    const uint64_t end = header.value + header.length;
    uint64_t position = header.value;
    while (position < end) {
        const Header item = readHeader(source, position, end, encoding);
        if (item.tag == tagSequenceEnd) return;
        if (item.tag != tagItem) throw Failure("malformed", "Sequence (%04X,%04X) holds something other than items.", header.tag >> 16, header.tag & 0xFFFF);
        if (item.length == undefined) return;   // only its content says where it ends
        if (item.length > end - item.value)
            throw Failure("malformed", "An item of sequence (%04X,%04X) is longer than the sequence.", header.tag >> 16, header.tag & 0xFFFF);
        position = item.value + item.length;
    }
}

bool isPixelData(cdicom_tag tag) { return tag == tagPixels || tag == tagFloatPixels || tag == tagDoublePixels; }

/// On one level. Tags are unique, real objects have a few hundred; without a limit a small deflated file could ask for much memory.
constexpr size_t mostElements = size_t(1) << 20;

/// Parses elements from `position` to `end`, or to the item delimiter. Returns where the next item or element begins.
uint64_t parseElements(cdicom_dataset &dataset, uint64_t position, uint64_t end, Encoding encoding, bool isItem, bool isMeta) {
    Source &source = *dataset.source;
    const bool isRoot = dataset.depth == 0;
    bool isSorted = true;
    while (position < end) {
        if (isMeta) {
            if (!source.require(position + 2)) break;
            if (read16(source.front() + position, false) != 2) break;
        } else if (isRoot && end - position < 8 && source.require(end)) {
            // Files padded with zeros to a block size are common and harmless.
            const uint8_t *rest = source.front() + position;
            if (std::all_of(rest, rest + (end - position), [](uint8_t byte) { return byte == 0; })) break;
        }
        const Header header = readHeader(source, position, end, encoding);
        if (header.tag == tagItemEnd && isItem) return header.value;
        if (header.tag >> 16 == 0xFFFE) throw Failure("malformed", "An item or delimiter stands outside a sequence at byte %llu.", (unsigned long long)position);
        if (header.tag == 0 && isRoot) {
            if (!source.require(end)) cut(position);
            const uint8_t *rest = source.front() + position;
            if (std::all_of(rest, rest + (end - position), [](uint8_t byte) { return byte == 0; })) break;
            // Zeros with something behind them: a stretch that was lost. Read as empty elements they would be searched again and again.
            throw Failure("malformed", "Zeros stand where an element belongs at byte %llu. The object is damaged; resend it.", (unsigned long long)position);
        }
        if (dataset.elements.size() == mostElements) throw Failure("malformed", "There are more than %zu elements on one level. The object is damaged; resend it.", mostElements);
        Element element{header.tag, {header.vr[0], header.vr[1]}, header.length == undefined, header.value, header.length};
        const bool stops = isRoot && !isMeta && isPixelData(header.tag);
        if (element.undefinedLength) {
            if (stops) {
                element.length = end - header.value;
            } else {
                const Encoding inside = encodingInside(header, encoding);
                const uint64_t close = endOfSequence(source, header.value, end, inside);
                element.length = close - header.value;
                position = close + 8;
            }
        } else {
            if (header.length > end - header.value) {
                if (stops) throw Failure("truncated", "Pixel Data (%04X,%04X) says %u bytes, but the object has %llu. Resend it.", header.tag >> 16, header.tag & 0xFFFF, header.length, (unsigned long long)(end - header.value));
                throw Failure("truncated", "Element (%04X,%04X) says %u bytes, but only %llu follow. The object is cut or damaged; resend it.", header.tag >> 16, header.tag & 0xFFFF, header.length, (unsigned long long)(end - header.value));
            }
            position = header.value + header.length;
            if (!stops && !source.require(position)) cut(header.value);
            if (header.vr[0] == 'S' && header.vr[1] == 'Q') checkItems(source, header, encoding);
        }
        if (!dataset.elements.empty() && dataset.elements.back().tag >= element.tag) isSorted = false;
        dataset.elements.push_back(element);
        if (stops) {
            position = end;
            break;
        }
    }
    if (position > end) cut(end);
    if (!isSorted) {
        std::stable_sort(dataset.elements.begin(), dataset.elements.end(), [](const Element &a, const Element &b) { return a.tag < b.tag; });
        for (size_t i = 1; i < dataset.elements.size(); ++i) {
            const cdicom_tag tag = dataset.elements[i].tag;
            // Two values of an attribute that says what the pixels mean: either may be the wrong one.
            if (tag == dataset.elements[i - 1].tag && (tag >> 16 == 0x0028 || tag >> 16 == 2))
                throw Failure("malformed", "Element (%04X,%04X) occurs twice. It is not certain which one holds.", tag >> 16, tag & 0xFFFF);
        }
    }
    return position;
}

std::string trimmed(const uint8_t *text, size_t count) {
    size_t begin = 0;
    while (begin < count && text[begin] == ' ') ++begin;
    while (count > begin && (text[count - 1] == ' ' || text[count - 1] == 0)) --count;
    return std::string(reinterpret_cast<const char *>(text) + begin, count - begin);
}

std::string textOf(const cdicom_dataset &dataset, cdicom_tag tag) {
    const Element *element = dataset.find(tag);
    if (!element || !dataset.isInMemory(*element)) return {};
    return trimmed(dataset.source->front() + element->offset, element->length);
}

void readContext(cdicom_dataset &dataset) {
    std::string characterSet = textOf(dataset, tagCharacterSet);
    if (!characterSet.empty()) dataset.characterSet = characterSet;
    if (const Element *element = dataset.find(tagPixelRepresentation)) {
        double value = 0;
        if (dataset.numbers(*element, &value, 1) == 1) dataset.inheritedPixelRepresentation = value == 1;
    }
}

bool looksExplicit(const uint8_t *p) { return isKnownVR(vr(char(p[4]), char(p[5]))); }

void parseObject(cdicom_dataset &dataset) {
    Source *source = dataset.source.get();
    uint64_t position = 0;
    bool hasMeta = true;
    if (source->require(132) && memcmp(source->front() + 128, "DICM", 4) == 0) {
        position = 132;
    } else if (source->require(8) && read16(source->front(), false) == 2 && looksExplicit(source->front())) {
        position = 0;   // file meta information without preamble
    } else if (source->require(12) && read16(source->front(), false) == 8 && read16(source->front() + 2, false) <= 0x0018
               && (looksExplicit(source->front()) || read32(source->front() + 4, false) <= 64)) {
        hasMeta = false;   // a bare data set, as some archives keep it
        dataset.encoding.isExplicit = looksExplicit(source->front());
        dataset.transferSyntax = dataset.encoding.isExplicit ? "1.2.840.10008.1.2.1" : "1.2.840.10008.1.2";
    } else {
        throw Failure("not-dicom", "This is not a DICOM file: neither the DICM prefix nor a data set was found.");
    }
    if (hasMeta) {
        position = parseElements(dataset, position, source->size(), Encoding{}, false, true);
        dataset.transferSyntax = textOf(dataset, tagTransferSyntax);
        if (dataset.transferSyntax.empty())
            throw Failure("missing-transfer-syntax", "Transfer Syntax UID (0002,0010) is missing: it is not known how the object is encoded.");
        if (dataset.transferSyntax == "1.2.840.10008.1.2") dataset.encoding.isExplicit = false;
        if (dataset.transferSyntax == "1.2.840.10008.1.2.2") dataset.encoding.isBigEndian = true;
        const bool isStandard = dataset.transferSyntax.rfind("1.2.840.10008.1.2", 0) == 0;
        if (!isStandard) {
            std::string shown = dataset.transferSyntax.substr(0, 64);
            for (char &c : shown) if (uint8_t(c) < 0x20 || uint8_t(c) > 0x7E) c = '?';
            throw Failure("unsupported-transfer-syntax", "Transfer Syntax UID (0002,0010): %s is private or unknown. Send the object as Explicit VR Little Endian.", shown.c_str());
        }
        if (dataset.transferSyntax == "1.2.840.10008.1.2.1.99") {
            dataset.source = Source::ofDeflated(*source, position);
            source = dataset.source.get();
        }
        if (position >= source->size()) throw Failure("truncated", "The object ends after its file meta information. Resend it.");
    }
    parseElements(dataset, position, source->size(), dataset.encoding, false, false);
    readContext(dataset);
    source->finishParsing();
}

double numberOf(const char *begin, const char *end) {
    while (begin < end && (*begin == ' ' || *begin == 0)) ++begin;
    while (end > begin && (end[-1] == ' ' || end[-1] == 0)) --end;
    if (begin < end && *begin == '+') ++begin;
    double value = 0;
    auto [stopped, problem] = std::from_chars(begin, end, value);
    if (problem == std::errc::result_out_of_range) return *begin == '-' ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    if (problem != std::errc() || stopped != end) return std::nan("");
    return value;
}

template <class Value, class Read>
size_t binary(const uint8_t *p, size_t length, double *values, size_t capacity, Read read) {
    const size_t count = length / sizeof(Value);
    for (size_t i = 0; i < std::min(count, capacity); ++i) {
        auto bits = read(p + i * sizeof(Value));
        Value value;
        memcpy(&value, &bits, sizeof value);
        values[i] = double(value);
    }
    return count;
}

}  // namespace

const Element *cdicom_dataset::find(cdicom_tag tag) const {
    auto found = std::lower_bound(elements.begin(), elements.end(), tag, [](const Element &element, cdicom_tag tag) { return element.tag < tag; });
    return found != elements.end() && found->tag == tag ? &*found : nullptr;
}

bool cdicom_dataset::isInMemory(const Element &element) const { return !(depth == 0 && isPixelData(element.tag)); }

std::pair<char, char> cdicom_dataset::vrOf(const Element &element) const {
    if (element.vr[0] && !(element.vr[0] == 'U' && element.vr[1] == 'N')) return {element.vr[0], element.vr[1]};
    char letters[2];
    dictionaryVR(element.tag, letters);
    if (element.undefinedLength && isInMemory(element)) return {'S', 'Q'};
    return {letters[0], letters[1]};
}

int cdicom_dataset::pixelRepresentation() const { return inheritedPixelRepresentation; }

size_t cdicom_dataset::numbers(const Element &element, double *values, size_t capacity) const {
    if (!isInMemory(element) || element.undefinedLength) return 0;
    const auto letters = vrOf(element);
    const uint8_t *p = source->front() + element.offset;
    const size_t length = element.length;
    const bool big = isBigEndian(element);
    uint16_t code = vr(letters.first, letters.second);
    if (code == vr('x', 's')) code = inheritedPixelRepresentation ? vr('S', 'S') : vr('U', 'S');
    switch (code) {
    case vr('D', 'S'): case vr('I', 'S'): {
        if (trimmed(p, length).empty()) return 0;
        const char *text = reinterpret_cast<const char *>(p), *end = text + length;
        size_t count = 0;
        for (;;) {
            const char *stop = std::find(text, end, '\\');
            if (count < capacity) values[count] = numberOf(text, stop);
            ++count;
            if (stop == end) return count;
            text = stop + 1;
        }
    }
    case vr('U', 'S'): case vr('O', 'W'): case vr('l', 't'): case vr('o', 'x'): case vr('A', 'T'):
        return binary<uint16_t>(p, length, values, capacity, [big](const uint8_t *p) { return read16(p, big); });
    case vr('S', 'S'): return binary<int16_t>(p, length, values, capacity, [big](const uint8_t *p) { return read16(p, big); });
    case vr('U', 'L'): case vr('O', 'L'): case vr('u', 'p'): return binary<uint32_t>(p, length, values, capacity, [big](const uint8_t *p) { return read32(p, big); });
    case vr('S', 'L'): return binary<int32_t>(p, length, values, capacity, [big](const uint8_t *p) { return read32(p, big); });
    case vr('U', 'V'): case vr('O', 'V'): return binary<uint64_t>(p, length, values, capacity, [big](const uint8_t *p) { return read64(p, big); });
    case vr('S', 'V'): return binary<int64_t>(p, length, values, capacity, [big](const uint8_t *p) { return read64(p, big); });
    case vr('F', 'L'): case vr('O', 'F'): return binary<float>(p, length, values, capacity, [big](const uint8_t *p) { return read32(p, big); });
    case vr('F', 'D'): case vr('O', 'D'): return binary<double>(p, length, values, capacity, [big](const uint8_t *p) { return read64(p, big); });
    }
    return 0;
}

// MARK: C interface

cdicom_dataset *cdicom_open_file(const char *path, cdicom_error *error) {
    return guarded(error, (cdicom_dataset *)nullptr, [&] {
        auto dataset = std::make_unique<cdicom_dataset>();
        dataset->source = Source::ofFile(path);
        parseObject(*dataset);
        return dataset.release();
    });
}

cdicom_dataset *cdicom_open_bytes(const void *bytes, size_t count, cdicom_error *error) {
    return guarded(error, (cdicom_dataset *)nullptr, [&] {
        auto dataset = std::make_unique<cdicom_dataset>();
        dataset->source = Source::ofBytes(bytes, count);
        parseObject(*dataset);
        return dataset.release();
    });
}

void cdicom_close(cdicom_dataset *dataset) { delete dataset; }

const char *cdicom_transfer_syntax(const cdicom_dataset *dataset) { return dataset->transferSyntax.c_str(); }

size_t cdicom_element_count(const cdicom_dataset *dataset) { return dataset->elements.size(); }

static void fill(const cdicom_dataset &dataset, const Element &stored, cdicom_element &element) {
    const auto letters = dataset.vrOf(stored);
    element.tag = stored.tag;
    element.vr[0] = letters.first, element.vr[1] = letters.second, element.vr[2] = 0;
    if (letters.first == 'x' && letters.second == 's') element.vr[0] = dataset.inheritedPixelRepresentation ? 'S' : 'U', element.vr[1] = 'S';
    // DCMTK's own letters for pixel data, for LUT data and for either.
    if ((letters.second == 'x' && (letters.first == 'o' || letters.first == 'p')) || (letters.first == 'l' && letters.second == 't')) element.vr[0] = 'O', element.vr[1] = 'W';
    if (letters.first == 'u' && letters.second == 'p') element.vr[0] = 'U', element.vr[1] = 'L';
    element.is_big_endian = dataset.isBigEndian(stored);
    element.is_sequence = element.vr[0] == 'S' && element.vr[1] == 'Q';
    element.length = stored.length;
    element.value = dataset.isInMemory(stored) && !stored.undefinedLength ? dataset.source->front() + stored.offset : nullptr;
}

bool cdicom_element_at(const cdicom_dataset *dataset, size_t index, cdicom_element *element) {
    if (index >= dataset->elements.size()) return false;
    fill(*dataset, dataset->elements[index], *element);
    return true;
}

bool cdicom_find(const cdicom_dataset *dataset, cdicom_tag tag, cdicom_element *element) {
    const Element *found = dataset->find(tag);
    if (found) fill(*dataset, *found, *element);
    return found;
}

bool cdicom_read_value(const cdicom_dataset *dataset, cdicom_tag tag, uint64_t offset, size_t count, void *destination, cdicom_error *error) {
    return guarded(error, false, [&] {
        const Element *found = dataset->find(tag);
        if (!found || found->undefinedLength || offset > found->length || count > found->length - offset)
            throw Failure("missing-attribute", "Element (%04X,%04X) has no such bytes.", tag >> 16, tag & 0xFFFF);
        dataset->source->read(found->offset + offset, count, destination);
        return true;
    });
}

size_t cdicom_items(const cdicom_dataset *dataset, cdicom_tag tag, cdicom_dataset ***items, cdicom_error *error) {
    *items = nullptr;
    std::vector<std::unique_ptr<cdicom_dataset>> children;
    guarded(error, false, [&] {
        const Element *element = dataset->find(tag);
        if (!element || !dataset->isInMemory(*element)) return true;
        const auto letters = dataset->vrOf(*element);
        if (!(letters.first == 'S' && letters.second == 'Q')) return true;
        if (dataset->depth + 1 > deepest) throw Failure("nested-too-deep", "Sequences are nested more than %d deep.", deepest);
        // A sequence stored as UN is implicit little endian inside (PS3.5 6.2.2).
        const bool isUnknown = element->vr[0] == 'U';
        const Encoding encoding = isUnknown ? Encoding{false, false} : dataset->encoding;
        uint64_t position = element->offset;
        const uint64_t end = element->offset + element->length;
        while (position < end) {
            const Header header = readHeader(*dataset->source, position, end, encoding);
            if (header.tag == tagSequenceEnd) break;
            if (header.tag != tagItem) throw Failure("malformed", "Sequence (%04X,%04X) holds something other than items.", tag >> 16, tag & 0xFFFF);
            if (header.length != undefined && header.length > end - header.value)
                throw Failure("malformed", "An item of sequence (%04X,%04X) is longer than the sequence.", tag >> 16, tag & 0xFFFF);
            auto child = std::make_unique<cdicom_dataset>();
            child->source = dataset->source;
            child->encoding = encoding;
            child->transferSyntax = dataset->transferSyntax;
            child->characterSet = dataset->characterSet;
            child->inheritedPixelRepresentation = dataset->inheritedPixelRepresentation;
            child->depth = dataset->depth + 1;
            const uint64_t childEnd = header.length == undefined ? end : header.value + header.length;
            position = parseElements(*child, header.value, childEnd, encoding, header.length == undefined, false);
            readContext(*child);
            children.push_back(std::move(child));
        }
        return true;
    });
    if (children.empty()) return 0;
    *items = static_cast<cdicom_dataset **>(malloc(children.size() * sizeof **items));
    if (!*items) return 0;
    for (size_t i = 0; i < children.size(); ++i) (*items)[i] = children[i].release();
    return children.size();
}

size_t cdicom_doubles(const cdicom_dataset *dataset, cdicom_tag tag, double *values, size_t capacity) {
    const Element *element = dataset->find(tag);
    if (!element) return 0;
    try {
        return dataset->numbers(*element, values, values ? capacity : 0);
    } catch (...) {
        return 0;   // out of memory
    }
}

char *cdicom_text(const cdicom_dataset *dataset, cdicom_tag tag, size_t *length) {
    try {
        const Element *element = dataset->find(tag);
        if (!element || element->undefinedLength || !dataset->isInMemory(*element)) return nullptr;
        const auto letters = dataset->vrOf(*element);
        const char *text = reinterpret_cast<const char *>(dataset->source->front() + element->offset);
        std::string converted;
        switch (vr(letters.first, letters.second)) {
        case vr('L', 'O'): case vr('L', 'T'): case vr('P', 'N'): case vr('S', 'H'): case vr('S', 'T'): case vr('U', 'C'): case vr('U', 'T'):
            converted = toUTF8(text, element->length, dataset->characterSet, letters.first == 'P');
            break;
        case vr('A', 'E'): case vr('A', 'S'): case vr('C', 'S'): case vr('D', 'A'): case vr('D', 'S'): case vr('D', 'T'): case vr('I', 'S'):
        case vr('T', 'M'): case vr('U', 'I'): case vr('U', 'R'):
            converted.assign(text, element->length);
            break;
        case vr('U', 'N'):
            // Private text in an implicit file: only plain ASCII can be told from binary data.
            if (!std::all_of(text, text + element->length, [](char c) { return (c >= ' ' && c <= '~') || c == 0; })) return nullptr;
            converted.assign(text, element->length);
            break;
        default: return nullptr;
        }
        auto *copy = static_cast<char *>(malloc(converted.size() + 1));
        if (!copy) return nullptr;
        memcpy(copy, converted.c_str(), converted.size() + 1);
        *length = converted.size();
        return copy;
    } catch (...) {
        return nullptr;   // out of memory
    }
}

void cdicom_free(void *memory) { free(memory); }
