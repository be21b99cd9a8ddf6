// libFuzzer harness over the import path: parse, walk all sequences and values, describe, decode frames.
#include "../Sources/CDICOM/include/CDICOM.h"
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr int mostValues = 4096;

void walk(const cdicom_dataset *dataset, int &budget) {
    for (size_t i = 0; i < cdicom_element_count(dataset) && budget > 0; ++i, --budget) {
        cdicom_element element;
        if (!cdicom_element_at(dataset, i, &element)) abort();
        volatile uint8_t sum = 0;
        if (element.value) for (uint64_t k = 0; k < element.length; ++k) sum = uint8_t(sum + element.value[k]);
        size_t length = 0;
        if (char *text = cdicom_text(dataset, element.tag, &length)) {
            if (strlen(text) > length) abort();
            cdicom_free(text);
        }
        std::vector<double> numbers(std::min<size_t>(cdicom_doubles(dataset, element.tag, nullptr, 0), 1024));
        cdicom_doubles(dataset, element.tag, numbers.data(), numbers.size());
        cdicom_dataset **items;
        cdicom_error error;
        const size_t count = cdicom_items(dataset, element.tag, &items, &error);
        for (size_t k = 0; k < count; ++k) {
            walk(items[k], budget);
            cdicom_close(items[k]);
        }
        cdicom_free(items);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
    cdicom_error error;
    cdicom_dataset *dataset = cdicom_open_bytes(bytes, count, &error);
    if (!dataset) {
        if (!error.code[0] || !error.message[0]) abort();   // every refusal says why
        return 0;
    }
    int budget = mostValues;
    walk(dataset, budget);
    cdicom_image image;
    if (cdicom_describe(dataset, &image, &error)) {
        // More than this is allowed by the contract, but slows the search down without showing anything new.
        if (image.frame_bytes <= size_t(8) << 20) {
            std::vector<uint8_t> frame(image.frame_bytes), mask(size_t(image.rows) * image.columns);
            cdicom_overlay_bit(dataset, 0, image.high_bit + 1, mask.data(), mask.size(), &error);
            for (uint32_t i = 0; i < image.frames && i < 4; ++i) {
                char photometric[20];
                void *encoded = nullptr;
                size_t length = 0;
                if (!cdicom_decode_frame(dataset, i, true, frame.data(), frame.size(), photometric, &error) && !error.message[0]) abort();
                if (cdicom_encoded_frame(dataset, i, &encoded, &length, &error)) cdicom_free(encoded);
            }
        }
    } else if (!error.code[0]) {
        abort();
    }
    cdicom_close(dataset);
    return 0;
}
