// The data dictionary and character sets are DCMTK's.
#include "Internal.hpp"
#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmdata/dcspchrs.h"
#include "dcmtk/oflog/oflog.h"
#include <algorithm>
#include <charls/charls.h>
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

std::string toUTF8(const char *text, size_t count, const std::string &characterSet, bool isPersonName) {
    const bool isPlain = std::all_of(text, text + count, [](char c) { return uint8_t(c) < 0x80 && c != 0x1B; });
    // Shift JIS and its kin give two ASCII codes another meaning; no other repertoire touches the plain letters.
    if (isPlain || characterSet == "ISO_IR 192") return std::string(text, count);
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
