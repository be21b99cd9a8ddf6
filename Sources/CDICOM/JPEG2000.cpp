// JPEG 2000 (ISO/IEC 15444-1) and High-Throughput JPEG 2000 (15444-15) through OpenJPEG.
#include "Internal.hpp"
#include <algorithm>
#include <openjpeg.h>

namespace cdicom {

namespace {

struct Cursor {
    const uint8_t *bytes;
    size_t count, at;
};

OPJ_SIZE_T readBytes(void *buffer, OPJ_SIZE_T wanted, void *user) {
    auto *cursor = static_cast<Cursor *>(user);
    if (cursor->at >= cursor->count) return OPJ_SIZE_T(-1);
    const size_t count = std::min<size_t>(wanted, cursor->count - cursor->at);
    memcpy(buffer, cursor->bytes + cursor->at, count);
    cursor->at += count;
    return count;
}
OPJ_OFF_T skipBytes(OPJ_OFF_T wanted, void *user) {
    auto *cursor = static_cast<Cursor *>(user);
    if (wanted < 0 || size_t(wanted) > cursor->count - cursor->at) return -1;
    cursor->at += size_t(wanted);
    return wanted;
}
OPJ_BOOL seekBytes(OPJ_OFF_T position, void *user) {
    auto *cursor = static_cast<Cursor *>(user);
    if (position < 0 || size_t(position) > cursor->count) return OPJ_FALSE;
    cursor->at = size_t(position);
    return OPJ_TRUE;
}

struct Messages {
    char first[120] = "the stream is damaged or cut";
    bool hasWarned = false, hasFailed = false;
};
void keep(Messages &messages, const char *text) {
    snprintf(messages.first, sizeof messages.first, "%s", text);
    for (char &c : messages.first) if (c == '\n' || c == '\r') c = 0;
}
void onError(const char *text, void *user) {
    auto &messages = *static_cast<Messages *>(user);
    if (!messages.hasFailed) keep(messages, text);
    messages.hasFailed = true;
}
void onWarning(const char *text, void *user) {
    // A well-known writer counts tile-parts from one; nothing is missing.
    if (!strncmp(text, "Non conformant codestream TPsot==TNsot", 38)) return;
    auto &messages = *static_cast<Messages *>(user);
    if (!messages.hasFailed && !messages.hasWarned) keep(messages, text);
    messages.hasWarned = true;
}

template <class Sample> void store(const opj_image_t &image, const FrameLayout &layout, uint8_t *destination) {
    for (uint32_t s = 0; s < layout.samples; ++s) {
        const OPJ_INT32 *from = image.comps[s].data;
        for (size_t i = 0; i < layout.pixels(); ++i) {
            const Sample value = Sample(from[i]);
            memcpy(destination + (i * layout.samples + s) * sizeof value, &value, sizeof value);
        }
    }
}

/// OpenJPEG sets up every tile of the header before it reads the first one, several kilobytes each. A real tile has a
/// header of 14 bytes at least, so a stream cannot hold more than its length allows.
void checkTiles(const Bytes &encoded, const FrameLayout &layout) {
    constexpr size_t sizeSegment = 38;   // SIZ up to and with YTOsiz (ISO/IEC 15444-1 A.5.1)
    constexpr uint64_t bytesPerTile = 8192;
    const uint8_t *begin = encoded.data(), *end = begin + encoded.count;
    static const uint8_t marker[4] = {0xFF, 0x4F, 0xFF, 0x51};
    // OpenJPEG reads the first codestream, wherever boxes put it.
    const uint8_t *at = std::search(begin, end, marker, marker + 4);
    if (size_t(end - at) < 4 + sizeSegment) return;   // OpenJPEG says what is wrong with it
    auto word = [at](size_t offset) { return uint64_t(read32(at + 4 + offset, true)); };
    const uint64_t right = word(4), bottom = word(8), tileWidth = word(20), tileHeight = word(24), left = word(28), top = word(32);
    if (!tileWidth || !tileHeight || right <= left || bottom <= top) return;
    const uint64_t across = (right - left + tileWidth - 1) / tileWidth, down = (bottom - top + tileHeight - 1) / tileHeight;
    if (across > 65535 || down > 65535 || across * down > encoded.count / 14 || across * down * bytesPerTile > layout.limit)
        throw Failure("decode-failed", "Frame %u: JPEG 2000: the header states %llu × %llu tiles, which the stream cannot hold. It is damaged; resend the object.", layout.frame,
                      (unsigned long long)across, (unsigned long long)down);
}

}  // namespace

Decoded decodeJPEG2000(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination) {
    auto fail = [&layout](const char *what) { throw Failure("decode-failed", "Frame %u: JPEG 2000: %s. Resend the object.", layout.frame, what); };
    static const uint8_t boxes[8] = {0, 0, 0, 12, 'j', 'P', ' ', ' '};
    if (encoded.count < 12) fail("the stream is empty or cut");
    const bool isBoxed = !memcmp(encoded.data(), boxes, 8);
    if (!isBoxed && !(encoded.data()[0] == 0xFF && encoded.data()[1] == 0x4F)) fail("there is no start of codestream");
    checkTiles(encoded, layout);
    Cursor cursor{encoded.data(), encoded.count, 0};
    Messages messages;
    std::unique_ptr<opj_codec_t, void (*)(opj_codec_t *)> codec(opj_create_decompress(isBoxed ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K), opj_destroy_codec);
    std::unique_ptr<opj_stream_t, void (*)(opj_stream_t *)> stream(opj_stream_create(std::min<size_t>(encoded.count, 1 << 20), OPJ_TRUE), opj_stream_destroy);
    if (!codec || !stream) throw std::bad_alloc();
    opj_stream_set_user_data(stream.get(), &cursor, nullptr);
    opj_stream_set_user_data_length(stream.get(), cursor.count);
    opj_stream_set_read_function(stream.get(), readBytes);
    opj_stream_set_skip_function(stream.get(), skipBytes);
    opj_stream_set_seek_function(stream.get(), seekBytes);
    opj_set_error_handler(codec.get(), onError, &messages);
    opj_set_warning_handler(codec.get(), onWarning, &messages);
    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    if (!opj_setup_decoder(codec.get(), &parameters) || !opj_decoder_set_strict_mode(codec.get(), OPJ_TRUE)) fail("the codec cannot be set up");
    opj_image_t *header = nullptr;
    const bool hasHeader = opj_read_header(stream.get(), codec.get(), &header);
    std::unique_ptr<opj_image_t, void (*)(opj_image_t *)> image(header, opj_image_destroy);
    if (!hasHeader || !image) fail(messages.first);
    const uint32_t columns = image->x1 - image->x0, rows = image->y1 - image->y0;
    if (image->numcomps != layout.samples || columns != layout.columns || rows != layout.rows)
        throw Failure("decode-failed", "Frame %u: the JPEG 2000 stream has %u × %u pixels of %u samples, the header %u × %u of %u.", layout.frame,
                      columns, rows, image->numcomps, layout.columns, layout.rows, layout.samples);
    const uint32_t precision = image->comps[0].prec;
    for (uint32_t s = 0; s < layout.samples; ++s) {
        const opj_image_comp_t &component = image->comps[s];
        if (component.dx != 1 || component.dy != 1) fail("components of reduced size are not supported");
        if (component.prec != precision || component.prec > layout.bytesPerSample * 8) fail("the precision of its components does not fit Bits Allocated (0028,0100)");
    }
    if (!opj_decode(codec.get(), stream.get(), image.get()) || !opj_end_decompress(codec.get(), stream.get())) fail(messages.first);
    if (messages.hasWarned || messages.hasFailed) fail(messages.first);
    for (uint32_t s = 0; s < layout.samples; ++s)
        if (!image->comps[s].data || image->comps[s].w != layout.columns || image->comps[s].h != layout.rows) fail("a component was not decoded");
    if (layout.bytesPerSample == 1) store<uint8_t>(*image, layout, destination);
    else if (layout.bytesPerSample == 2) store<uint16_t>(*image, layout, destination);
    else store<uint32_t>(*image, layout, destination);
    Decoded decoded;
    decoded.precision = precision;
    // Both component transforms are undone by the codec, whatever the header calls them.
    if (opj_codestream_info_v2_t *information = opj_get_cstr_info(codec.get())) {
        decoded.isRGB = information->m_default_tile_info.mct == 1;
        opj_destroy_cstr_info(&information);
    }
    return decoded;
}

}  // namespace cdicom
