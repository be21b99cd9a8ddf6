// JPEG-LS (ISO/IEC 14495-1) through CharLS.
#include "Internal.hpp"
#include <charls/charls.h>

namespace cdicom {

namespace {
void check(charls_jpegls_errc state, const FrameLayout &layout) {
    if (state != charls::jpegls_errc::success)
        throw Failure("decode-failed", "Frame %u: JPEG-LS: %s The stream is damaged or cut; resend the object.", layout.frame, charls_get_error_message(state));
}
}  // namespace

Decoded decodeJPEGLS(const Bytes &encoded, const FrameLayout &layout, uint8_t *destination) {
    std::unique_ptr<charls_jpegls_decoder, void (*)(const charls_jpegls_decoder *)> decoder(charls_jpegls_decoder_create(), charls_jpegls_decoder_destroy);
    if (!decoder) throw std::bad_alloc();
    check(charls_jpegls_decoder_set_source_buffer(decoder.get(), encoded.data(), encoded.count + endMarkerBytes), layout);
    check(charls_jpegls_decoder_read_header(decoder.get()), layout);
    charls_frame_info facts;
    check(charls_jpegls_decoder_get_frame_info(decoder.get(), &facts), layout);
    if (facts.width != layout.columns || facts.height != layout.rows || uint32_t(facts.component_count) != layout.samples)
        throw Failure("decode-failed", "Frame %u: the JPEG-LS stream has %u × %u pixels of %d samples, the header %u × %u of %u.", layout.frame,
                      facts.width, facts.height, facts.component_count, layout.columns, layout.rows, layout.samples);
    const uint32_t precision = uint32_t(facts.bits_per_sample), decodedBytes = precision <= 8 ? 1 : 2;
    if (precision > layout.bytesPerSample * 8)
        throw Failure("decode-failed", "Frame %u: the JPEG-LS stream has %u bits, but Bits Allocated (0028,0100) is %u.", layout.frame, precision, layout.bitsAllocated);
    charls_interleave_mode mode;
    check(charls_jpegls_decoder_get_interleave_mode(decoder.get(), &mode), layout);
    const bool isPlanar = layout.samples > 1 && mode == charls::interleave_mode::none;
    const size_t pixels = layout.pixels(), samples = pixels * layout.samples;
    const bool isDirect = decodedBytes == layout.bytesPerSample && !isPlanar;
    Bytes staged(isDirect ? 0 : samples * decodedBytes);
    uint8_t *target = isDirect ? destination : staged.data();
    check(charls_jpegls_decoder_decode_to_buffer(decoder.get(), target, samples * decodedBytes, 0), layout);
    if (!isDirect) {
        for (size_t i = 0; i < samples; ++i) {
            const size_t from = isPlanar ? i % layout.samples * pixels + i / layout.samples : i;
            uint32_t value = 0;
            memcpy(&value, target + from * decodedBytes, decodedBytes);
            memcpy(destination + i * layout.bytesPerSample, &value, layout.bytesPerSample);
        }
    }
    Decoded decoded;
    decoded.precision = precision;
    return decoded;
}

}  // namespace cdicom
