#include "device.h"

#define MOST_BINDINGS 24
#define MOST_MARKS 64
/// Descriptor sets per submission.
#define MOST_SETS 256

struct GPUPipeline {
    GPUDevice *device;
    VkDescriptorSetLayout setLayout;
    VkPipelineLayout layout;
    VkPipeline handle;
    int bindingCount;
    VkDescriptorType types[MOST_BINDINGS];
};

/// Memory for parameters; grows by further pieces that are kept.
typedef struct Arena { struct Arena *next; GPUBuffer *buffer; size_t used, room; } Arena;

struct GPUCommands {
    GPUDevice *device;
    GPUQueue queue;
    VkCommandPool pool;
    VkCommandBuffer handle;
    VkDescriptorPool descriptors;
    VkQueryPool marks;
    int markCount;
    Arena *arenas;
};

int gpuPipeline(GPUDevice *d, const uint32_t *code, size_t bytes, const char *bindings, const uint32_t *constants, int constantCount, GPUPipeline **out) {
    *out = NULL;
    GPUPipeline *p = calloc(1, sizeof *p);
    if (!p) return GPU_OUT_OF_HOST_MEMORY;
    p->device = d;
    p->bindingCount = (int)strlen(bindings);
    VkDescriptorSetLayoutBinding list[MOST_BINDINGS];
    for (int i = 0; i < p->bindingCount; i++) {
        switch (bindings[i]) {
        case 'u': p->types[i] = VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER; break;
        case 'i': p->types[i] = VK_DESCRIPTOR_TYPE_SAMPLED_IMAGE; break;
        case 's': p->types[i] = VK_DESCRIPTOR_TYPE_SAMPLER; break;
        case 'l': p->types[i] = VK_DESCRIPTOR_TYPE_STORAGE_IMAGE; break;
        case 't': p->types[i] = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER; break;
        default: p->types[i] = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
        }
        list[i] = (VkDescriptorSetLayoutBinding){ (uint32_t)i, p->types[i], 1, VK_SHADER_STAGE_COMPUTE_BIT, bindings[i] == 's' ? &d->sampler : NULL };
    }
    const VkDescriptorSetLayoutCreateInfo setInfo = { VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = (uint32_t)p->bindingCount, .pBindings = list };
    VkResult r = d->CreateDescriptorSetLayout(d->handle, &setInfo, NULL, &p->setLayout);
    const VkPushConstantRange push = { VK_SHADER_STAGE_COMPUTE_BIT, 0, GPU_PUSH_BYTES };
    const VkPipelineLayoutCreateInfo layoutInfo = { VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &p->setLayout, .pushConstantRangeCount = 1, .pPushConstantRanges = &push };
    if (r == VK_SUCCESS) r = d->CreatePipelineLayout(d->handle, &layoutInfo, NULL, &p->layout);
    VkShaderModule module = VK_NULL_HANDLE;
    const VkShaderModuleCreateInfo moduleInfo = { VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = code };
    if (r == VK_SUCCESS) r = d->CreateShaderModule(d->handle, &moduleInfo, NULL, &module);
    if (r == VK_SUCCESS) {
        VkSpecializationMapEntry entries[16];
        for (int i = 0; i < constantCount && i < 16; i++) entries[i] = (VkSpecializationMapEntry){ (uint32_t)i, (uint32_t)i * 4, 4 };
        const VkSpecializationInfo special = { (uint32_t)constantCount, entries, (size_t)constantCount * 4, constants };
        const VkComputePipelineCreateInfo info = { VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO, .layout = p->layout,
            .stage = { VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = module, .pName = "main", .pSpecializationInfo = &special } };
        r = d->CreateComputePipelines(d->handle, VK_NULL_HANDLE, 1, &info, NULL, &p->handle);
    }
    if (module) d->DestroyShaderModule(d->handle, module, NULL);
    if (r < 0) { gpuFreePipeline(p); return r; }
    *out = p;
    return 0;
}

void gpuFreePipeline(GPUPipeline *p) {
    if (!p) return;
    GPUDevice *d = p->device;
    if (p->handle) d->DestroyPipeline(d->handle, p->handle, NULL);
    if (p->layout) d->DestroyPipelineLayout(d->handle, p->layout, NULL);
    if (p->setLayout) d->DestroyDescriptorSetLayout(d->handle, p->setLayout, NULL);
    free(p);
}

int gpuCommands(GPUDevice *d, GPUQueue queue, GPUCommands **out) {
    *out = NULL;
    GPUCommands *c = calloc(1, sizeof *c);
    if (!c) return GPU_OUT_OF_HOST_MEMORY;
    c->device = d; c->queue = queue;
    const VkCommandPoolCreateInfo pool = { VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT, .queueFamilyIndex = d->queues[queue].family };
    VkResult r = d->CreateCommandPool(d->handle, &pool, NULL, &c->pool);
    if (r == VK_SUCCESS) {
        const VkCommandBufferAllocateInfo info = { VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = c->pool, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1 };
        r = d->AllocateCommandBuffers(d->handle, &info, &c->handle);
    }
    if (r == VK_SUCCESS && queue == GPUQueueCompute) {
        const VkDescriptorPoolSize sizes[] = {
            { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 6 * MOST_SETS }, { VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, 2 * MOST_SETS },
            { VK_DESCRIPTOR_TYPE_SAMPLED_IMAGE, 16 * MOST_SETS }, { VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, 2 * MOST_SETS },
            { VK_DESCRIPTOR_TYPE_SAMPLER, MOST_SETS }, { VK_DESCRIPTOR_TYPE_STORAGE_IMAGE, 16 * MOST_SETS } };
        const VkDescriptorPoolCreateInfo info = { VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = MOST_SETS, .poolSizeCount = 6, .pPoolSizes = sizes };
        r = d->CreateDescriptorPool(d->handle, &info, NULL, &c->descriptors);
    }
    if (r == VK_SUCCESS && d->nanosecondsPerTick > 0 && d->queues[queue].marks) {
        const VkQueryPoolCreateInfo info = { VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = MOST_MARKS };
        r = d->CreateQueryPool(d->handle, &info, NULL, &c->marks);
    }
    if (r < 0) { gpuFreeCommands(c); return r; }
    *out = c;
    return 0;
}

void gpuFreeCommands(GPUCommands *c) {
    if (!c) return;
    GPUDevice *d = c->device;
    if (c->marks) d->DestroyQueryPool(d->handle, c->marks, NULL);
    if (c->descriptors) d->DestroyDescriptorPool(d->handle, c->descriptors, NULL);
    if (c->pool) d->DestroyCommandPool(d->handle, c->pool, NULL);
    for (Arena *a = c->arenas; a;) { Arena *next = a->next; gpuFreeBuffer(a->buffer); free(a); a = next; }
    free(c);
}

int gpuBegin(GPUCommands *c) {
    GPUDevice *d = c->device;
    VkResult r = d->ResetCommandPool(d->handle, c->pool, 0);
    if (r == VK_SUCCESS && c->descriptors) r = d->ResetDescriptorPool(d->handle, c->descriptors, 0);
    const VkCommandBufferBeginInfo info = { VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO, .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };
    if (r == VK_SUCCESS) r = d->BeginCommandBuffer(c->handle, &info);
    if (r < 0) return r;
    for (Arena *a = c->arenas; a; a = a->next) a->used = 0;
    c->markCount = 0;
    if (c->marks && c->queue == GPUQueueCompute) d->CmdResetQueryPool(c->handle, c->marks, 0, MOST_MARKS);
    else if (c->marks) d->ResetQueryPool(d->handle, c->marks, 0, MOST_MARKS);
    gpuBarrier(c);
    return 0;
}

void *gpuParameters(GPUCommands *c, const void *data, size_t bytes, GPUBinding *binding) {
    GPUDevice *d = c->device;
    const size_t alignment = d->uniformAlignment > d->storageAlignment ? d->uniformAlignment : d->storageAlignment;
    const size_t room = (bytes + alignment - 1) / alignment * alignment;
    Arena *a = c->arenas;
    while (a && a->used + room > a->room) a = a->next;
    if (!a) {
        a = calloc(1, sizeof *a);
        if (!a) return NULL;
        a->room = room > (1u << 20) ? room : 1u << 20;
        if (gpuBuffer(d, a->room, GPUMemoryUpload, &a->buffer) < 0) { free(a); return NULL; }
        a->next = c->arenas;
        c->arenas = a;
    }
    char *target = (char *)gpuContents(a->buffer) + a->used;
    if (data) memcpy(target, data, bytes);
    *binding = (GPUBinding){ .buffer = a->buffer, .offset = a->used, .bytes = bytes };
    a->used += room;
    return target;
}

int gpuDispatch(GPUCommands *c, GPUPipeline *p, const GPUBinding *bindings, const void *push, int pushBytes, uint32_t x, uint32_t y, uint32_t z) {
    GPUDevice *d = c->device;
    VkDescriptorSet set;
    const VkDescriptorSetAllocateInfo info = { VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO, .descriptorPool = c->descriptors, .descriptorSetCount = 1, .pSetLayouts = &p->setLayout };
    VkResult r = d->AllocateDescriptorSets(d->handle, &info, &set);
    if (r < 0) return r;
    VkWriteDescriptorSet writes[MOST_BINDINGS];
    VkDescriptorBufferInfo buffers[MOST_BINDINGS];
    VkDescriptorImageInfo images[MOST_BINDINGS];
    uint32_t count = 0;
    for (int i = 0; i < p->bindingCount; i++) {
        const GPUBinding *b = bindings + i;
        if (p->types[i] == VK_DESCRIPTOR_TYPE_SAMPLER) continue;
        VkWriteDescriptorSet *write = writes + count++;
        *write = (VkWriteDescriptorSet){ VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set, .dstBinding = (uint32_t)i, .descriptorCount = 1, .descriptorType = p->types[i] };
        if (p->types[i] == VK_DESCRIPTOR_TYPE_SAMPLED_IMAGE || p->types[i] == VK_DESCRIPTOR_TYPE_STORAGE_IMAGE) {
            images[i] = (VkDescriptorImageInfo){ .imageView = b->isSmooth ? b->image->smooth : b->image->view, .imageLayout = VK_IMAGE_LAYOUT_GENERAL };
            write->pImageInfo = images + i;
        } else if (p->types[i] == VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER) write->pTexelBufferView = &b->buffer->view;
        else {
            buffers[i] = (VkDescriptorBufferInfo){ b->buffer->handle, b->offset, b->bytes ? b->bytes : VK_WHOLE_SIZE };
            write->pBufferInfo = buffers + i;
        }
    }
    d->UpdateDescriptorSets(d->handle, count, writes, 0, NULL);
    d->CmdBindPipeline(c->handle, VK_PIPELINE_BIND_POINT_COMPUTE, p->handle);
    d->CmdBindDescriptorSets(c->handle, VK_PIPELINE_BIND_POINT_COMPUTE, p->layout, 0, 1, &set, 0, NULL);
    char constants[GPU_PUSH_BYTES] = { 0 };
    if (pushBytes > 0) memcpy(constants, push, (size_t)pushBytes);
    d->CmdPushConstants(c->handle, p->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, GPU_PUSH_BYTES, constants);
    d->CmdDispatch(c->handle, x, y, z);
    return 0;
}

/// What a queue's commands do.
static VkPipelineStageFlags stages(GPUQueue queue) { return VK_PIPELINE_STAGE_TRANSFER_BIT | (queue == GPUQueueCompute ? VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT : 0); }
static VkAccessFlags writes(GPUQueue queue) { return VK_ACCESS_TRANSFER_WRITE_BIT | (queue == GPUQueueCompute ? VK_ACCESS_SHADER_WRITE_BIT : 0); }
static VkAccessFlags reads(GPUQueue queue) { return VK_ACCESS_TRANSFER_READ_BIT | (queue == GPUQueueCompute ? VK_ACCESS_SHADER_READ_BIT : 0); }

void gpuBarrier(GPUCommands *c) {
    const VkMemoryBarrier barrier = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = writes(c->queue), .dstAccessMask = reads(c->queue) | writes(c->queue) };
    c->device->CmdPipelineBarrier(c->handle, stages(c->queue), stages(c->queue), 0, 1, &barrier, 0, NULL, 0, NULL);
}

void gpuPrepareImage(GPUCommands *c, GPUImage *i) {
    const VkImageMemoryBarrier barrier = { VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, .oldLayout = VK_IMAGE_LAYOUT_UNDEFINED, .newLayout = VK_IMAGE_LAYOUT_GENERAL,
        .srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED, .dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED, .image = i->handle, .subresourceRange = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1 } };
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    c->device->CmdPipelineBarrier(c->handle, stages, stages, 0, 0, NULL, 0, NULL, 1, &barrier);
}

void gpuClearRange(GPUCommands *c, GPUImage *i, float low, float high) {
    const VkClearColorValue color = { .float32 = { low, high, 0, 0 } };
    const VkImageSubresourceRange range = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1 };
    c->device->CmdClearColorImage(c->handle, i->handle, VK_IMAGE_LAYOUT_GENERAL, &color, 1, &range);
}

void gpuUpload(GPUCommands *c, GPUBuffer *from, uint64_t offset, GPUImage *to, uint32_t z, uint32_t count) {
    gpuUploadBox(c, from, offset, to, (const uint32_t[]){ 0, 0, z }, (const uint32_t[]){ to->size.width, to->size.height, count });
}

void gpuUploadBox(GPUCommands *c, GPUBuffer *from, uint64_t offset, GPUImage *to, const uint32_t origin[3], const uint32_t size[3]) {
    const VkBufferImageCopy region = { .bufferOffset = offset, .imageSubresource = { VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1 },
        .imageOffset = { (int32_t)origin[0], (int32_t)origin[1], (int32_t)origin[2] }, .imageExtent = { size[0], size[1], size[2] } };
    c->device->CmdCopyBufferToImage(c->handle, from->handle, to->handle, VK_IMAGE_LAYOUT_GENERAL, 1, &region);
}

void gpuCopy(GPUCommands *c, GPUBuffer *from, GPUBuffer *to, uint64_t bytes) { gpuCopyRange(c, from, 0, to, 0, bytes); }

void gpuCopyRange(GPUCommands *c, GPUBuffer *from, uint64_t fromOffset, GPUBuffer *to, uint64_t toOffset, uint64_t bytes) {
    const VkBufferCopy region = { fromOffset, toOffset, bytes };
    c->device->CmdCopyBuffer(c->handle, from->handle, to->handle, 1, &region);
}

void gpuFill(GPUCommands *c, GPUBuffer *b, uint64_t offset, uint64_t bytes, uint32_t word) { c->device->CmdFillBuffer(c->handle, b->handle, offset, bytes, word); }

int gpuMark(GPUCommands *c) {
    if (!c->marks || c->markCount == MOST_MARKS) return -1;
    c->device->CmdWriteTimestamp(c->handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, c->marks, (uint32_t)c->markCount);
    return c->markCount++;
}

void gpuLoseAfter(GPUDevice *d, int count) { d->loseAfter = count; }

int gpuSubmit(GPUCommands *c, const GPUPoint waits[2], uint64_t *value) {
    GPUDevice *d = c->device;
    Queue *queue = d->queues + c->queue;
    const VkMemoryBarrier barrier = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = writes(c->queue), .dstAccessMask = VK_ACCESS_HOST_READ_BIT };
    d->CmdPipelineBarrier(c->handle, stages(c->queue), VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
    VkResult r = d->EndCommandBuffer(c->handle);
    if (r < 0) return r;
    if (d->loseAfter == 0) return GPU_LOST;
    if (d->loseAfter > 0 && c->queue == GPUQueueCompute) d->loseAfter--;
    VkSemaphore semaphores[2];
    uint64_t values[2];
    VkPipelineStageFlags waiting[2];
    uint32_t count = 0;
    for (int i = 0; i < 2; i++) {
        if (!waits[i].value) continue;
        semaphores[count] = d->queues[waits[i].queue].timeline;
        values[count] = waits[i].value;
        waiting[count++] = stages(c->queue);
    }
    const uint64_t next = queue->submitted + 1;
    const VkTimelineSemaphoreSubmitInfo timeline = { VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO, .waitSemaphoreValueCount = count, .pWaitSemaphoreValues = values,
        .signalSemaphoreValueCount = 1, .pSignalSemaphoreValues = &next };
    const VkSubmitInfo info = { VK_STRUCTURE_TYPE_SUBMIT_INFO, .pNext = &timeline, .waitSemaphoreCount = count, .pWaitSemaphores = semaphores, .pWaitDstStageMask = waiting,
        .commandBufferCount = 1, .pCommandBuffers = &c->handle, .signalSemaphoreCount = 1, .pSignalSemaphores = &queue->timeline };
    r = d->QueueSubmit(queue->handle, 1, &info, VK_NULL_HANDLE);
    if (r < 0) return r;
    queue->submitted = next;
    *value = next;
    return 0;
}

uint64_t gpuSubmitted(GPUDevice *d, GPUQueue queue) { return d->queues[queue].submitted; }

int gpuWait(GPUDevice *d, GPUPoint point, uint64_t nanoseconds) {
    const VkSemaphoreWaitInfo info = { VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &d->queues[point.queue].timeline, .pValues = &point.value };
    return d->WaitSemaphores(d->handle, &info, nanoseconds);
}

double gpuSeconds(GPUCommands *c, int from, int to) {
    uint64_t ticks[MOST_MARKS];
    if (from < 0 || to <= from || to >= c->markCount) return 0;
    if (c->device->GetQueryPoolResults(c->device->handle, c->marks, 0, (uint32_t)c->markCount, sizeof ticks, ticks, 8, VK_QUERY_RESULT_64_BIT) != VK_SUCCESS) return 0;
    return (double)(ticks[to] - ticks[from]) * c->device->nanosecondsPerTick * 1e-9;
}
