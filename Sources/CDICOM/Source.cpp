#include "Internal.hpp"
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

namespace cdicom {

namespace {
/// One read usually brings the whole header of a classic image.
constexpr size_t firstRead = 16 << 10;

void readFully(int descriptor, void *destination, size_t count, size_t offset) {
    auto *to = static_cast<uint8_t *>(destination);
    while (count > 0) {
        ssize_t got = pread(descriptor, to, count, off_t(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Failure("unreadable", "The file cannot be read: %s.", strerror(errno));
        if (got == 0) throw Failure("truncated", "The file became shorter while it was read.");
        to += got, offset += size_t(got), count -= size_t(got);
    }
}

struct Descriptor {
    int value;
    ~Descriptor() { if (value >= 0) close(value); }
};
}  // namespace

Source::~Source() {
    free(storage);
    if (descriptor >= 0) close(descriptor);
}

std::shared_ptr<Source> Source::ofFile(const char *path) {
    std::shared_ptr<Source> source(new Source);
    source->path = path;
    // Not blocking: opening a pipe must not wait for its writer.
    source->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source->descriptor < 0) throw Failure("unreadable", "The file cannot be opened: %s.", strerror(errno));
    struct stat facts;
    if (fstat(source->descriptor, &facts) != 0) throw Failure("unreadable", "The file cannot be examined: %s.", strerror(errno));
    if (!S_ISREG(facts.st_mode)) throw Failure("unreadable", "This is not a regular file.");
    source->total = size_t(facts.st_size);
    source->modified = int64_t(facts.st_mtim.tv_sec) * 1000000000 + facts.st_mtim.tv_nsec;
    source->inode = facts.st_ino;
    return source;
}

std::shared_ptr<Source> Source::ofBytes(const void *bytes, size_t count) {
    std::shared_ptr<Source> source(new Source);
    source->storage = static_cast<uint8_t *>(malloc(count ? count : 1));
    if (!source->storage) throw std::bad_alloc();
    if (count) memcpy(source->storage, bytes, count);
    source->loaded = source->capacity = source->total = count;
    return source;
}

bool Source::load(size_t end) {
    size_t wanted = std::min(total, std::max({end, loaded * 2, firstRead}));
    if (wanted > capacity) {
        auto *larger = static_cast<uint8_t *>(realloc(storage, wanted));
        if (!larger) throw std::bad_alloc();
        storage = larger, capacity = wanted;
    }
    readFully(descriptor, storage + loaded, wanted - loaded, loaded);
    loaded = wanted;
    return true;
}

void Source::read(size_t offset, size_t count, void *destination) const {
    if (offset > total || count > total - offset) throw Failure("truncated", "The object ends before its pixel data does. Resend it.");
    if (offset + count <= loaded) {
        memcpy(destination, storage + offset, count);
        return;
    }
    openForFrames();
    readFully(descriptor, destination, count, offset);
}

void Source::openForFrames() const {
    if (descriptor >= 0 || loaded == total) return;
    Descriptor opened{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (opened.value < 0) throw Failure("unreadable", "The file cannot be opened again: %s.", strerror(errno));
    struct stat facts;
    if (fstat(opened.value, &facts) != 0 || size_t(facts.st_size) != total || facts.st_ino != inode
        || int64_t(facts.st_mtim.tv_sec) * 1000000000 + facts.st_mtim.tv_nsec != modified)
        throw Failure("changed", "The file was changed after its header was read. Read it again.");
    descriptor = opened.value;
    opened.value = -1;
}

void Source::finishParsing() {
    if (descriptor < 0) return;
    close(descriptor);
    descriptor = -1;
}

std::shared_ptr<Source> Source::ofDeflated(const Source &file, size_t from) {
    // Room is left for the compressed bytes, which are held beside it.
    const size_t limit = allocationLimit(file.total) - file.total - (size_t(4) << 20);
    std::shared_ptr<Source> source(new Source);
    Bytes compressed(file.total - from);
    file.read(from, compressed.count, compressed.data());
    source->capacity = std::min(limit, from + compressed.count * 4 + 4096);
    source->storage = static_cast<uint8_t *>(malloc(source->capacity));
    if (!source->storage) throw std::bad_alloc();
    memcpy(source->storage, file.front(), from);
    source->loaded = from;

    z_stream stream{};
    if (inflateInit2(&stream, -15) != Z_OK) throw std::bad_alloc();
    struct Ending {
        z_stream &stream;
        ~Ending() { inflateEnd(&stream); }
    } ending{stream};
    size_t consumed = 0;
    for (;;) {
        if (source->loaded == source->capacity) {
            if (source->capacity >= limit)
                throw Failure("too-large", "The deflated data set inflates to more than seven times its size and 60 MiB (0002,0010). It is refused as a decompression bomb.");
            size_t larger = std::min(limit, source->capacity * 2);
            auto *moved = static_cast<uint8_t *>(realloc(source->storage, larger));
            if (!moved) throw std::bad_alloc();
            source->storage = moved, source->capacity = larger;
        }
        uInt input = uInt(std::min<size_t>(compressed.count - consumed, 1 << 30));
        uInt output = uInt(std::min<size_t>(source->capacity - source->loaded, 1 << 30));
        stream.next_in = compressed.data() + consumed, stream.avail_in = input;
        stream.next_out = source->storage + source->loaded, stream.avail_out = output;
        int state = inflate(&stream, Z_NO_FLUSH);
        consumed += input - stream.avail_in;
        source->loaded += output - stream.avail_out;
        if (state == Z_STREAM_END) break;
        if (state == Z_BUF_ERROR && stream.avail_out == 0) continue;
        if (state != Z_OK || (stream.avail_in == 0 && stream.avail_out > 0 && consumed == compressed.count))
            throw Failure("decode-failed", "The deflated data set is damaged or cut after %zu inflated bytes. Resend the object.", source->loaded - from);
    }
    source->total = source->loaded;
    return source;
}

void inflateExactly(const uint8_t *from, size_t count, uint8_t *destination, size_t expected, uint32_t frame) {
    z_stream stream{};
    if (inflateInit2(&stream, -15) != Z_OK) throw std::bad_alloc();
    if (count > UINT32_MAX || expected > UINT32_MAX) {
        inflateEnd(&stream);
        throw Failure("too-large", "Frame %u: a deflated frame above 4 GiB is not supported.", frame);
    }
    stream.next_in = const_cast<uint8_t *>(from), stream.avail_in = uInt(count);
    stream.next_out = destination, stream.avail_out = uInt(expected);
    int state = inflate(&stream, Z_FINISH);
    size_t produced = expected - stream.avail_out;
    inflateEnd(&stream);
    if (state != Z_STREAM_END || produced != expected)
        throw Failure("decode-failed", "Frame %u: the deflated stream gives %zu of %zu bytes. Resend the object.", frame, produced, expected);
}

}  // namespace cdicom

void cdicom_begin_writing(int descriptor, uint64_t offset, uint64_t length) {
    sync_file_range(descriptor, off64_t(offset), off64_t(length), SYNC_FILE_RANGE_WRITE);
}
