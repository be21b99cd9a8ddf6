#include "device.h"

/// Small blocks are cut from chunks of this size; larger ones get memory of their own.
#define CHUNK_BYTES (64u << 20)

void gpuFailAllocations(GPUDevice *d, int count, uint64_t bytes) {
    pthread_mutex_lock(&d->lock);
    d->failCount = count; d->failBytes = bytes;
    pthread_mutex_unlock(&d->lock);
}

uint64_t gpuAllocatedBytes(GPUDevice *d) {
    pthread_mutex_lock(&d->lock);
    uint64_t bytes = d->allocatedBytes;
    pthread_mutex_unlock(&d->lock);
    return bytes;
}
uint64_t gpuAllocations(GPUDevice *d) {
    pthread_mutex_lock(&d->lock);
    uint64_t count = d->allocations;
    pthread_mutex_unlock(&d->lock);
    return count;
}

/// The first memory type that has all of `need`, preferring `want`; -1: none.
static int memoryType(GPUDevice *d, uint32_t allowed, VkMemoryPropertyFlags need, VkMemoryPropertyFlags want) {
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++) {
            VkMemoryPropertyFlags flags = d->memory.memoryTypes[i].propertyFlags, all = pass == 0 ? need | want : need;
            if ((allowed >> i & 1) && (flags & all) == all) return (int)i;
        }
    return -1;
}

static VkResult newChunk(GPUDevice *d, VkDeviceSize bytes, uint32_t type, int forImages, int dedicated, Chunk **out) {
    Chunk *c = calloc(1, sizeof *c);
    if (!c) return VK_ERROR_OUT_OF_HOST_MEMORY;
    const VkMemoryAllocateInfo info = { VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = bytes, .memoryTypeIndex = type };
    VkResult r = d->AllocateMemory(d->handle, &info, NULL, &c->memory);
    if (r < 0) { free(c); return r; }
    const VkMemoryPropertyFlags mappable = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (!forImages && (d->memory.memoryTypes[type].propertyFlags & mappable) == mappable)
        d->MapMemory(d->handle, c->memory, 0, VK_WHOLE_SIZE, 0, (void **)&c->mapped);
    c->size = bytes; c->type = type; c->forImages = forImages; c->isDedicated = dedicated;
    c->freeRoom = 16;
    c->free = malloc(sizeof(Span) * 16);
    c->free[0] = (Span){ 0, bytes };
    c->freeCount = 1;
    c->next = d->chunks;
    d->chunks = c;
    d->allocatedBytes += bytes; d->allocations++;
    *out = c;
    return VK_SUCCESS;
}

static int cut(Chunk *c, VkDeviceSize bytes, VkDeviceSize alignment, Place *place) {
    for (int i = 0; i < c->freeCount; i++) {
        Span s = c->free[i];
        VkDeviceSize start = (s.offset + alignment - 1) / alignment * alignment, end = start + bytes;
        if (end > s.offset + s.size) continue;
        // What lies before stays free, what lies behind becomes a span of its own.
        VkDeviceSize before = start - s.offset, behind = s.offset + s.size - end;
        if (before && behind) {
            if (c->freeCount == c->freeRoom) {
                Span *grown = realloc(c->free, sizeof(Span) * (size_t)(2 * c->freeRoom));
                if (!grown) return 0;
                c->free = grown; c->freeRoom *= 2;
            }
            memmove(c->free + i + 1, c->free + i, sizeof(Span) * (size_t)(c->freeCount - i));
            c->freeCount++;
            c->free[i] = (Span){ s.offset, before };
            c->free[i + 1] = (Span){ end, behind };
        } else if (before) c->free[i].size = before;
        else if (behind) c->free[i] = (Span){ end, behind };
        else { memmove(c->free + i, c->free + i + 1, sizeof(Span) * (size_t)(c->freeCount - i - 1)); c->freeCount--; }
        *place = (Place){ c, start, bytes };
        return 1;
    }
    return 0;
}

static VkResult take(GPUDevice *d, VkMemoryRequirements r, VkMemoryPropertyFlags need, VkMemoryPropertyFlags want, int forImages, Place *place) {
    int type = memoryType(d, r.memoryTypeBits, need, want);
    if (type < 0) return VK_ERROR_FEATURE_NOT_PRESENT;
    pthread_mutex_lock(&d->lock);
    VkResult result = VK_SUCCESS;
    if (d->failCount > 0 && r.size >= d->failBytes) { d->failCount--; result = VK_ERROR_OUT_OF_DEVICE_MEMORY; }
    int found = 0;
    if (result == VK_SUCCESS && r.size <= CHUNK_BYTES / 2)
        for (Chunk *c = d->chunks; c && !found; c = c->next)
            if (!c->isDedicated && c->type == (uint32_t)type && c->forImages == forImages) found = cut(c, r.size, r.alignment, place);
    if (result == VK_SUCCESS && !found) {
        Chunk *c;
        int dedicated = r.size > CHUNK_BYTES / 2;
        result = newChunk(d, dedicated ? r.size : CHUNK_BYTES, (uint32_t)type, forImages, dedicated, &c);
        if (result == VK_SUCCESS && !cut(c, r.size, r.alignment, place)) result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    pthread_mutex_unlock(&d->lock);
    return result;
}

static void give(GPUDevice *d, Place place) {
    Chunk *c = place.chunk;
    if (!c) return;
    pthread_mutex_lock(&d->lock);
    int i = 0;
    while (i < c->freeCount && c->free[i].offset < place.offset) i++;
    int joinsBefore = i > 0 && c->free[i - 1].offset + c->free[i - 1].size == place.offset;
    int joinsBehind = i < c->freeCount && place.offset + place.size == c->free[i].offset;
    if (joinsBefore && joinsBehind) {
        c->free[i - 1].size += place.size + c->free[i].size;
        memmove(c->free + i, c->free + i + 1, sizeof(Span) * (size_t)(c->freeCount - i - 1));
        c->freeCount--;
    } else if (joinsBefore) c->free[i - 1].size += place.size;
    else if (joinsBehind) { c->free[i].offset = place.offset; c->free[i].size += place.size; }
    else {
        int room = c->freeCount < c->freeRoom;
        if (!room) {
            Span *grown = realloc(c->free, sizeof(Span) * (size_t)(2 * c->freeRoom));
            if (grown) { c->free = grown; c->freeRoom *= 2; room = 1; }
        }
        // Without room the span is lost until its chunk goes.
        if (room) {
            memmove(c->free + i + 1, c->free + i, sizeof(Span) * (size_t)(c->freeCount - i));
            c->free[i] = (Span){ place.offset, place.size };
            c->freeCount++;
        }
    }
    if (c->freeCount == 1 && c->free[0].size == c->size) {
        Chunk **link = &d->chunks;
        while (*link != c) link = &(*link)->next;
        *link = c->next;
        d->allocatedBytes -= c->size;
        d->FreeMemory(d->handle, c->memory, NULL);
        free(c->free);
        free(c);
    }
    pthread_mutex_unlock(&d->lock);
}

static int newBuffer(GPUDevice *d, uint64_t bytes, GPUMemory kind, int texels, GPUBuffer **out) {
    *out = NULL;
    GPUBuffer *b = calloc(1, sizeof *b);
    if (!b) return GPU_OUT_OF_HOST_MEMORY;
    b->device = d; b->bytes = bytes;
    const VkBufferCreateInfo info = { VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes,
        .sharingMode = d->familyCount > 1 ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE, .queueFamilyIndexCount = d->familyCount, .pQueueFamilyIndices = d->families,
        .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                 (kind == GPUMemoryUpload ? VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT : 0) | (texels ? VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT : 0) };
    VkResult r = d->CreateBuffer(d->handle, &info, NULL, &b->handle);
    if (r < 0) { free(b); return r; }
    VkMemoryRequirements needs;
    d->GetBufferMemoryRequirements(d->handle, b->handle, &needs);
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT, local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    switch (kind) {
    // Where one kind of memory is everything, results need no copy.
    case GPUMemoryDevice: r = take(d, needs, local, host | cached, 0, &b->place); break;
    case GPUMemoryUpload: r = take(d, needs, host, 0, 0, &b->place); break;
    case GPUMemoryReadback: r = take(d, needs, host, cached, 0, &b->place); break;
    }
    if (r == VK_SUCCESS) r = d->BindBufferMemory(d->handle, b->handle, b->place.chunk->memory, b->place.offset);
    if (r == VK_SUCCESS && texels) {
        const VkBufferViewCreateInfo view = { VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO, .buffer = b->handle, .format = VK_FORMAT_R32G32B32A32_SINT, .range = bytes };
        r = d->CreateBufferView(d->handle, &view, NULL, &b->view);
    }
    if (r < 0) { gpuFreeBuffer(b); return r; }
    // Uncached memory is slow to read: it counts as unmapped for device buffers.
    VkMemoryPropertyFlags flags = d->memory.memoryTypes[b->place.chunk->type].propertyFlags;
    if (b->place.chunk->mapped && (kind != GPUMemoryDevice || ((flags & cached) && !d->apart))) b->mapped = b->place.chunk->mapped + b->place.offset;
    *out = b;
    return 0;
}

int gpuBuffer(GPUDevice *d, uint64_t bytes, GPUMemory kind, GPUBuffer **out) { return newBuffer(d, bytes, kind, 0, out); }
int gpuTexels(GPUDevice *d, uint64_t bytes, GPUBuffer **out) { return newBuffer(d, bytes, GPUMemoryUpload, 1, out); }
void *gpuContents(GPUBuffer *b) { return b->mapped; }

void gpuFreeBuffer(GPUBuffer *b) {
    if (!b) return;
    GPUDevice *d = b->device;
    if (b->view) d->DestroyBufferView(d->handle, b->view, NULL);
    d->DestroyBuffer(d->handle, b->handle, NULL);
    give(d, b->place);
    free(b);
}

int gpuImage(GPUDevice *d, GPUFormat format, const uint32_t size[3], GPUImage **out) {
    *out = NULL;
    GPUImage *i = calloc(1, sizeof *i);
    if (!i) return GPU_OUT_OF_HOST_MEMORY;
    i->device = d;
    i->size = (VkExtent3D){ size[0], size[1], size[2] };
    // Integers are not filtered: the same memory is read as normalised numbers.
    const VkFormat smooth = d->loads ? VK_FORMAT_UNDEFINED : format == GPUFormatInt16 && d->filtersInt16 ? VK_FORMAT_R16_SNORM : format == GPUFormatFloat && d->filtersFloat ? VK_FORMAT_R32_SFLOAT : VK_FORMAT_UNDEFINED;
    const VkImageCreateInfo info = { VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO, .flags = smooth && smooth != imageFormats[format] ? VK_IMAGE_CREATE_MUTABLE_FORMAT_BIT : 0, .imageType = VK_IMAGE_TYPE_3D, .format = imageFormats[format], .extent = i->size, .mipLevels = 1, .arrayLayers = 1,
        // Shared rather than handed over: a volume has no compression to lose.
        .sharingMode = d->familyCount > 1 ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE, .queueFamilyIndexCount = d->familyCount, .pQueueFamilyIndices = d->families,
        .samples = VK_SAMPLE_COUNT_1_BIT, .tiling = VK_IMAGE_TILING_OPTIMAL, .usage = VK_IMAGE_USAGE_SAMPLED_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT | (d->loads ? VK_IMAGE_USAGE_STORAGE_BIT : 0) };
    VkResult r = d->CreateImage(d->handle, &info, NULL, &i->handle);
    if (r < 0) { free(i); return r; }
    VkMemoryRequirements needs;
    d->GetImageMemoryRequirements(d->handle, i->handle, &needs);
    r = take(d, needs, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0, 1, &i->place);
    if (r == VK_SUCCESS) r = d->BindImageMemory(d->handle, i->handle, i->place.chunk->memory, i->place.offset);
    VkImageViewCreateInfo view = { VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO, .image = i->handle, .viewType = VK_IMAGE_VIEW_TYPE_3D, .format = imageFormats[format],
        .subresourceRange = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1 } };
    if (r == VK_SUCCESS) r = d->CreateImageView(d->handle, &view, NULL, &i->view);
    view.format = smooth;
    if (r == VK_SUCCESS && smooth) r = d->CreateImageView(d->handle, &view, NULL, &i->smooth);
    if (r < 0) { gpuFreeImage(i); return r; }
    *out = i;
    return 0;
}

int gpuIsSmooth(GPUImage *i) { return i->smooth != VK_NULL_HANDLE; }

void gpuFreeImage(GPUImage *i) {
    if (!i) return;
    GPUDevice *d = i->device;
    if (i->view) d->DestroyImageView(d->handle, i->view, NULL);
    if (i->smooth) d->DestroyImageView(d->handle, i->smooth, NULL);
    d->DestroyImage(d->handle, i->handle, NULL);
    give(d, i->place);
    free(i);
}

void gpuDestroy(GPUDevice *d) {
    if (!d) return;
    d->DeviceWaitIdle(d->handle);
    if (d->sampler) d->DestroySampler(d->handle, d->sampler, NULL);
    for (int q = 0; q < GPUQueueCount; q++) if (d->queues[q].timeline) d->DestroySemaphore(d->handle, d->queues[q].timeline, NULL);
    d->DestroyDevice(d->handle, NULL);
    pthread_mutex_destroy(&d->lock);
    free(d);
}
