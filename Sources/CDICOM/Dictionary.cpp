// The data dictionary and character sets are DCMTK's.
#include "Internal.hpp"
#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmdata/dcspchrs.h"
#include "dcmtk/oflog/oflog.h"
#include <algorithm>
#include <cctype>
#include <charls/charls.h>
#include <iconv.h>
#include <openjpeg.h>

namespace cdicom {

void dictionaryVR(cdicom_tag tag, char vr[2]) {
    vr[0] = 'U', vr[1] = 'N';
    if ((tag & 0xFFFF) == 0) {   // group length
        vr[1] = 'L';
        return;
    }
    if ((tag >> 16) & 1) return;   // private
    const DcmDataDictionary &dictionary = dcmDataDict.rdlock();
    const DcmDictEntry *entry = dictionary.findEntry(DcmTagKey(Uint16(tag >> 16), Uint16(tag & 0xFFFF)), nullptr);
    if (entry) {
        const char *name = entry->getVR().getVRName();   // two letters; "ox", "xs", "lt", "up", "na" for the dependent ones
        if (name && name[0] && name[1]) vr[0] = name[0], vr[1] = name[1];
    }
    dcmDataDict.rdunlock();
}

namespace {

/// Japanese text with code extensions (PS3.3 C.12.1.1.2, PS3.5 6.1.2.5), which DCMTK cannot convert with the C library's
/// iconv: the escape sequences are turned into EUC-JP, which iconv knows.
std::string japaneseToUTF8(const char *text, size_t count, bool isPersonName) {
    enum class Set { ascii, kanji, supplement } set = Set::ascii;
    std::string extended;
    for (size_t i = 0; i < count;) {
        const uint8_t byte = uint8_t(text[i]);
        auto escape = [&](const char *sequence) { return count - i > strlen(sequence) && !memcmp(text + i + 1, sequence, strlen(sequence)); };
        if (byte == 0x1B) {
            if (escape("$B") || escape("$@")) set = Set::kanji, i += 3;
            else if (escape("$(D")) set = Set::supplement, i += 4;
            else if (escape("(B") || escape("(J")) set = Set::ascii, i += 3;
            else if (escape(")I")) i += 3;   // half-width katakana in the upper half, which needs no state
            else i += 1;
        } else if (set != Set::ascii && byte >= 0x21 && byte <= 0x7E && i + 1 < count) {
            if (set == Set::supplement) extended += char(0x8F);
            extended += char(byte | 0x80);
            extended += char(uint8_t(text[i + 1]) | 0x80);
            i += 2;
        } else {
            // Delimiters and line ends return to the initial set (PS3.5 6.1.2.5.3).
            if (byte == '\\' || byte == '\r' || byte == '\n' || byte == '\t' || (isPersonName && (byte == '^' || byte == '='))) set = Set::ascii;
            if (byte >= 0xA1 && byte <= 0xDF) extended += char(0x8E);
            if (byte < 0x80 || (byte >= 0xA1 && byte <= 0xDF)) extended += char(byte);
            ++i;
        }
    }
    const iconv_t converter = iconv_open("UTF-8", "EUC-JP");
    if (converter == iconv_t(-1)) return std::string(text, count);
    std::string converted(extended.size() * 3 + 3, 0);
    char *from = extended.data(), *to = converted.data();
    size_t left = extended.size(), room = converted.size();
    while (left > 0 && room >= 3) {
        if (iconv(converter, &from, &left, &to, &room) != size_t(-1)) break;
        if (room < 3) break;
        memcpy(to, "\xEF\xBF\xBD", 3);   // a character that does not exist
        to += 3, room -= 3, ++from, --left;
    }
    iconv_close(converter);
    converted.resize(size_t(to - converted.data()));
    return converted;
}

}  // namespace

std::string toUTF8(const char *text, size_t count, const std::string &characterSet, bool isPersonName) {
    const bool isPlain = std::all_of(text, text + count, [](char c) { return uint8_t(c) < 0x80 && c != 0x1B; });
    // Shift JIS and its kin give two ASCII codes another meaning; no other repertoire touches the plain letters.
    if (isPlain || characterSet == "ISO_IR 192") return std::string(text, count);
    for (const char *japanese : {"IR 87", "IR 159", "IR 13"})
        if (const size_t at = characterSet.find(japanese); at != std::string::npos && !isdigit(uint8_t(characterSet.c_str()[at + strlen(japanese)])))
            return japaneseToUTF8(text, count, isPersonName);
    // Setting up a converter costs far more than using it.
    thread_local std::string preparedFor;
    thread_local std::unique_ptr<DcmSpecificCharacterSet> converter;
    if (!converter || preparedFor != characterSet) {
        converter = std::make_unique<DcmSpecificCharacterSet>();
        preparedFor = characterSet;
        if (converter->selectCharacterSet(characterSet.c_str(), "ISO_IR 192").bad()) converter->clear();
    }
    if (*converter) {
        OFString converted;
        if (converter->convertString(text, count, converted, isPersonName ? "\\^=" : "\\").good()) return std::string(converted.c_str(), converted.length());
    }
    return std::string(text, count);   // Swift repairs what is not UTF-8
}

}  // namespace cdicom

void cdicom_dictionary_vr(cdicom_tag tag, char *vr) {
    cdicom::dictionaryVR(tag, vr);
    vr[2] = 0;
}
const char *cdicom_dcmtk_version(void) { return OFFIS_DCMTK_VERSION_STRING; }
const char *cdicom_openjpeg_version(void) { return opj_version(); }
const char *cdicom_charls_version(void) { return charls_get_version_string(); }

bool cdicom_dictionary_tag(const char *keyword, cdicom_tag *tag) {
    const DcmDataDictionary &dictionary = dcmDataDict.rdlock();
    const DcmDictEntry *entry = dictionary.findEntry(keyword);
    // Ranges (overlays) stand for their first group; private names are no keywords.
    const bool found = entry && !entry->getPrivateCreator() && !(entry->getGroup() & 1);
    if (found) *tag = cdicom_tag(entry->getGroup()) << 16 | entry->getElement();
    dcmDataDict.rdunlock();
    return found;
}

void cdicom_dictionary_keyword(cdicom_tag tag, char *keyword, size_t capacity) {
    keyword[0] = 0;
    if ((tag >> 16) & 1) return;
    const DcmDataDictionary &dictionary = dcmDataDict.rdlock();
    const DcmDictEntry *entry = dictionary.findEntry(DcmTagKey(Uint16(tag >> 16), Uint16(tag & 0xFFFF)), nullptr);
    if (entry) snprintf(keyword, capacity, "%s", entry->getTagName());
    dcmDataDict.rdunlock();
}
