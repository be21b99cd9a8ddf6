// Parsing of DICOM data sets and decoding of their pixel frames, for Swift. No C++ type and no C++ exception
// crosses this header. Every function is safe on damaged and hostile input: it ends in a result or in an error.
#ifndef CDICOM_H
#define CDICOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// One parsed data set, or one item of a sequence. One thread at a time; several may be open on one file.
typedef struct cdicom_dataset cdicom_dataset;

/// `code` is empty when all went well, otherwise a stable kebab-case word.
typedef struct {
    char code[40];
    char message[256];
} cdicom_error;

/// A tag is group << 16 | element.
typedef uint32_t cdicom_tag;

/// One element as stored. `value` lies inside the data set and lives as long as it. It is null where the value stays
/// on disk (Pixel Data) or is a sequence of undefined length (use `cdicom_items`).
typedef struct {
    cdicom_tag tag;
    char vr[3];            // from the file, or the dictionary where the file is implicit; "UN" if neither knows
    bool is_big_endian;
    bool is_sequence;
    uint64_t length;
    const uint8_t *_Nullable value;
} cdicom_element;

/// Header facts of the pixel data, checked against each other and against the size of the file.
typedef struct {
    uint32_t rows, columns, frames, samples_per_pixel;
    uint32_t bits_allocated, bits_stored, high_bit, planar_configuration;
    bool is_signed, is_float, is_encapsulated;
    char photometric[20];          // as stored
    size_t frame_bytes;            // one decoded frame: rows × columns × samples × bytes per sample
    uint32_t bytes_per_sample;     // decoded: 1, 2, 4 or 8
} cdicom_image;

/// Reads the header of a file; pixel data stays on disk.
cdicom_dataset *_Nullable cdicom_open_file(const char *path, cdicom_error *error);
/// Parses a copy of the bytes.
cdicom_dataset *_Nullable cdicom_open_bytes(const void *bytes, size_t count, cdicom_error *error);
void cdicom_close(cdicom_dataset *dataset);

/// UID of the transfer syntax; lives as long as the data set.
const char *cdicom_transfer_syntax(const cdicom_dataset *dataset);

/// Elements in the order of the file. The file meta information (group 0002) comes first.
size_t cdicom_element_count(const cdicom_dataset *dataset);
bool cdicom_element_at(const cdicom_dataset *dataset, size_t index, cdicom_element *element);
bool cdicom_find(const cdicom_dataset *dataset, cdicom_tag tag, cdicom_element *element);

/// Items of a sequence, each to be closed; the array is released with `cdicom_free`. Zero if absent or not a sequence.
/// A child keeps its bytes alive on its own. A damaged item ends the list and sets the error.
size_t cdicom_items(const cdicom_dataset *dataset, cdicom_tag tag, cdicom_dataset *_Nonnull *_Nullable *_Nonnull items, cdicom_error *error);

/// Numbers of DS, IS and all binary numeric VRs. Returns how many there are; at most `capacity` are written.
/// A text that is not a number is NaN.
size_t cdicom_doubles(const cdicom_dataset *dataset, cdicom_tag tag, double *_Nullable values, size_t capacity);

/// Text as UTF-8, by the Specific Character Set in force, with all values and their backslashes, padding kept.
/// Release with `cdicom_free`. Null if absent or not a text.
char *_Nullable cdicom_text(const cdicom_dataset *dataset, cdicom_tag tag, size_t *length);
void cdicom_free(void *_Nullable memory);

bool cdicom_describe(const cdicom_dataset *dataset, cdicom_image *image, cdicom_error *error);

/// Decodes frame `index` (from 0) into `destination`: native byte order, stored bits masked and sign extended, colour
/// interleaved by pixel. `to_rgb` converts YBR forms to RGB, otherwise they stay as stored (YBR_FULL_422 expanded to
/// full resolution, YBR_RCT and YBR_ICT undone by the codec, hence RGB).
/// `photometric` (20 bytes) receives the interpretation as delivered.
bool cdicom_decode_frame(cdicom_dataset *dataset, uint32_t index, bool to_rgb, void *destination, size_t capacity,
                         char *photometric, cdicom_error *error);

/// The bit at position `bit` of every cell of frame `index` as 0 or 1: an overlay in the unused bits of the pixel data, a form
/// that the standard has retired (PS3.5 8.1.2). `mask` needs rows × columns bytes.
bool cdicom_overlay_bit(cdicom_dataset *dataset, uint32_t index, uint32_t bit, uint8_t *mask, size_t capacity, cdicom_error *error);

/// The encoded bytes of one frame, fragments joined, for pass-through. Release with `cdicom_free`.
bool cdicom_encoded_frame(cdicom_dataset *dataset, uint32_t index, void *_Nullable *_Nonnull bytes, size_t *length, cdicom_error *error);

/// Bytes of a value as stored, also of native pixel data that stays on disk.
bool cdicom_read_value(const cdicom_dataset *dataset, cdicom_tag tag, uint64_t offset, size_t count, void *destination, cdicom_error *error);

/// Tag of a keyword of the data dictionary ("PatientName"); false if it is unknown.
bool cdicom_dictionary_tag(const char *keyword, cdicom_tag *tag);
/// Keyword of a tag into `capacity` bytes; empty if unknown or private.
void cdicom_dictionary_keyword(cdicom_tag tag, char *keyword, size_t capacity);
/// VR of a tag in the data dictionary into 3 bytes ("UN" if unknown; "xs" US or SS, "ox" OB or OW, "lt" LUT data).
void cdicom_dictionary_vr(cdicom_tag tag, char *vr);
/// Version of DCMTK, of OpenJPEG, of CharLS: "3.6.7", …
const char *cdicom_dcmtk_version(void);
const char *cdicom_openjpeg_version(void);
const char *cdicom_charls_version(void);

// MARK: Network (PS3.7, PS3.8)

typedef struct {
    const char *host;
    uint16_t port;
    const char *title;       // AE title of the peer
    const char *own_title;
    int timeout;             // seconds
} cdicom_peer;

/// Called on the provider's threads.
typedef struct {
    void *_Nullable context;
    /// A received object lies at `path`; returns the status of C-STORE. The file is deleted afterwards.
    uint16_t (*_Nonnull stored)(void *_Nullable context, const char *path);
    /// Answers an identifier (DICOM JSON) with identifiers of lines "ggggeeee=value", separated by form feeds; null if it cannot. Allocated with malloc.
    char *_Nullable (*_Nonnull find)(void *_Nullable context, const char *identifier);
    /// Paths of the files that an identifier names, one a line; null if it cannot. Allocated with malloc.
    char *_Nullable (*_Nonnull locate)(void *_Nullable context, const char *identifier);
    /// Path of a copy of the file at `path` in Explicit VR Little Endian, deleted afterwards; null if it cannot be decoded. Allocated with malloc.
    char *_Nullable (*_Nonnull decoded)(void *_Nullable context, const char *path);
} cdicom_provider_callbacks;

typedef struct {
    const char *title;
    bool checks_title;       // refuse callers that ask for another title
    uint16_t port;
    int timeout;
    uint32_t associations;   // at a time
    const char *spool;       // folder for objects on their way
    const char *const _Nonnull *_Nullable peers;   // "TITLE host port"; when there are any, others are refused
    size_t peer_count;
    cdicom_provider_callbacks callbacks;
} cdicom_provider_settings;

typedef struct cdicom_provider cdicom_provider;
/// C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET for all storage classes.
cdicom_provider *_Nullable cdicom_provider_start(const cdicom_provider_settings *settings, cdicom_error *error);
void cdicom_provider_stop(cdicom_provider *provider);

bool cdicom_echo(const cdicom_peer *peer, cdicom_error *error);
/// `keys`: lines "ggggeeee=value" with Query/Retrieve Level. One JSON array; release with `cdicom_free`.
char *_Nullable cdicom_network_find(const cdicom_peer *peer, const char *keys, cdicom_error *error);
bool cdicom_network_move(const cdicom_peer *peer, const char *destination, const char *keys, uint32_t *completed, uint32_t *failed, cdicom_error *error);
/// Objects are written to `folder`, named by the library. `classes`: SOP classes to be offered; none stands for the usual ones.
bool cdicom_network_get(const cdicom_peer *peer, const char *keys, const char *const _Nonnull *_Nullable classes, size_t class_count, const char *folder,
                        uint32_t *completed, uint32_t *failed, cdicom_error *error);
bool cdicom_network_store(const cdicom_peer *peer, const char *const _Nonnull *_Nonnull paths, size_t count, uint32_t *stored, cdicom_error *error);

/// Asks the system to begin writing what a file has in memory; waits for nothing and promises nothing.
void cdicom_begin_writing(int descriptor, uint64_t offset, uint64_t length);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
#endif
