// What the files of this target share.
#pragma once
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "CVulkan.h"

#define INSTANCE_FUNCTIONS(X) X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties2) X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties) \
    X(GetPhysicalDeviceMemoryProperties2) X(GetPhysicalDeviceQueueFamilyProperties) X(GetPhysicalDeviceFormatProperties) X(EnumerateDeviceExtensionProperties) X(CreateDevice) X(GetDeviceProcAddr) X(DestroyInstance)
#define DEVICE_FUNCTIONS(X) X(DestroyDevice) X(DeviceWaitIdle) X(GetDeviceQueue) X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements) X(BindBufferMemory) \
    X(CreateBufferView) X(DestroyBufferView) X(CreateImage) X(DestroyImage) X(GetImageMemoryRequirements) X(BindImageMemory) X(CreateImageView) X(DestroyImageView) \
    X(AllocateMemory) X(FreeMemory) X(MapMemory) X(CreateShaderModule) X(DestroyShaderModule) X(CreateDescriptorSetLayout) X(DestroyDescriptorSetLayout) \
    X(CreatePipelineLayout) X(DestroyPipelineLayout) X(CreateComputePipelines) X(DestroyPipeline) X(CreateDescriptorPool) X(DestroyDescriptorPool) X(ResetDescriptorPool) \
    X(AllocateDescriptorSets) X(UpdateDescriptorSets) X(CreateCommandPool) X(DestroyCommandPool) X(ResetCommandPool) X(AllocateCommandBuffers) X(BeginCommandBuffer) \
    X(EndCommandBuffer) X(CmdBindPipeline) X(CmdBindDescriptorSets) X(CmdPushConstants) X(CmdDispatch) X(CmdPipelineBarrier) X(CmdCopyBufferToImage) X(CmdCopyBuffer) \
    X(CmdFillBuffer) X(CmdClearColorImage) X(CmdResetQueryPool) X(CmdWriteTimestamp) X(CreateQueryPool) X(DestroyQueryPool) X(GetQueryPoolResults) X(QueueSubmit) \
    X(CreateSampler) X(DestroySampler) X(CreateSemaphore) X(DestroySemaphore) X(WaitSemaphores) X(ResetQueryPool)

#define MEMBER(name) PFN_vk##name name;

struct GPUInstance {
    void *library;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    VkInstance handle;
    INSTANCE_FUNCTIONS(MEMBER)
    VkDebugUtilsMessengerEXT messenger;
    PFN_vkDestroyDebugUtilsMessengerEXT destroyMessenger;
    VkPhysicalDevice devices[16];
    uint32_t deviceCount;
    pthread_mutex_t lock;
    char **messages;
    int messageCount;
};

enum { GPUFormatCount = 5 };
/// By GPUFormat.
static const VkFormat imageFormats[GPUFormatCount] = { VK_FORMAT_R16_SINT, VK_FORMAT_R32_SFLOAT, VK_FORMAT_R8G8B8A8_UNORM, VK_FORMAT_R32G32_SFLOAT, VK_FORMAT_R8_UNORM };

typedef struct { VkDeviceSize offset, size; } Span;

/// Device memory from which buffers or images are cut.
typedef struct Chunk {
    struct Chunk *next;
    VkDeviceMemory memory;
    VkDeviceSize size;
    uint32_t type;
    int forImages, isDedicated;
    char *mapped;
    Span *free;                     // ascending, never adjacent
    int freeCount, freeRoom;
} Chunk;

typedef struct { Chunk *chunk; VkDeviceSize offset, size; } Place;

enum { GPUQueueCount = 3 };
/// `handle` NULL: the device has none.
typedef struct { VkQueue handle; uint32_t family; int marks; VkSemaphore timeline; uint64_t submitted; } Queue;

struct GPUDevice {
    GPUInstance *instance;
    VkPhysicalDevice physical;
    VkDevice handle;
    DEVICE_FUNCTIONS(MEMBER)
    Queue queues[GPUQueueCount];    // by GPUQueue
    uint32_t families[2], familyCount; // whose queues share buffers and images
    int apart;                      // see GPU_APART
    VkPhysicalDeviceMemoryProperties memory;
    int reportsBudget;
    double nanosecondsPerTick;      // 0: no timestamps
    VkDeviceSize uniformAlignment, storageAlignment;
    VkSampler sampler;              // linear, up to the edge
    int loads;                      // images are storage images as well
    int filtersInt16, filtersFloat; // voxels of these formats, the first as normalised ones
    pthread_mutex_t lock;           // of chunks and figures
    Chunk *chunks;
    uint64_t allocatedBytes, allocations;
    int failCount; uint64_t failBytes;
    int loseAfter;                  // < 0: never
};

struct GPUBuffer { GPUDevice *device; VkBuffer handle; VkBufferView view; Place place; VkDeviceSize bytes; char *mapped; };
/// `smooth`: what the sampler reads; NULL: nothing.
struct GPUImage { GPUDevice *device; VkImage handle; VkImageView view, smooth; Place place; VkExtent3D size; };
