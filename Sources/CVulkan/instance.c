#include "device.h"
#include <dlfcn.h>

static VKAPI_ATTR VkBool32 VKAPI_CALL message(VkDebugUtilsMessageSeverityFlagBitsEXT severity, VkDebugUtilsMessageTypeFlagsEXT types,
                                              const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
    (void)severity; (void)types;
    GPUInstance *g = user;
    pthread_mutex_lock(&g->lock);
    char **grown = realloc(g->messages, sizeof(char *) * (size_t)(g->messageCount + 1));
    if (grown) {
        g->messages = grown;
        char *copy = strdup(data->pMessage ? data->pMessage : "");
        if (copy) g->messages[g->messageCount++] = copy;
    }
    pthread_mutex_unlock(&g->lock);
    return VK_FALSE;
}

GPUInstance *gpuOpen(int validation, char *reason, size_t bytes) {
    GPUInstance *g = calloc(1, sizeof *g);
    if (!g) { snprintf(reason, bytes, "out of memory"); return NULL; }
    pthread_mutex_init(&g->lock, NULL);
    g->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (g->library) g->GetInstanceProcAddr = (PFN_vkGetInstanceProcAddr)dlsym(g->library, "vkGetInstanceProcAddr");
    if (!g->GetInstanceProcAddr) { snprintf(reason, bytes, "libvulkan.so.1 is not installed"); gpuClose(g); return NULL; }
    PFN_vkEnumerateInstanceVersion version = (PFN_vkEnumerateInstanceVersion)g->GetInstanceProcAddr(NULL, "vkEnumerateInstanceVersion");
    uint32_t loader = VK_API_VERSION_1_0;
    if (version) version(&loader);
    if (loader < VK_API_VERSION_1_2) { snprintf(reason, bytes, "the Vulkan loader is older than 1.2"); gpuClose(g); return NULL; }

    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT, .pfnUserCallback = message, .pUserData = g,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        // Not the layer's performance hints: volumes stay in the general layout by design.
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT };
    // The two together are too slow, and the layer advises against it.
    const VkValidationFeatureEnableEXT enabled[] = { validation == 2 ? VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT : VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT };
    const VkValidationFeaturesEXT features = { VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT, .pNext = &messenger, .enabledValidationFeatureCount = 1, .pEnabledValidationFeatures = enabled };
    const char *layers[] = { "VK_LAYER_KHRONOS_validation" }, *extensions[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME };
    const VkApplicationInfo application = { VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "tomos", .apiVersion = VK_API_VERSION_1_2 };
    const VkInstanceCreateInfo info = { VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pNext = validation ? &features : NULL, .pApplicationInfo = &application,
        .enabledLayerCount = validation ? 1 : 0, .ppEnabledLayerNames = layers, .enabledExtensionCount = validation ? 1 : 0, .ppEnabledExtensionNames = extensions };
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)g->GetInstanceProcAddr(NULL, "vkCreateInstance");
    VkResult result = create(&info, NULL, &g->handle);
    if (result != VK_SUCCESS) {
        g->handle = NULL;
        snprintf(reason, bytes, result == VK_ERROR_LAYER_NOT_PRESENT ? "the Khronos validation layer is not installed (vulkan-validationlayers)" : "vkCreateInstance failed with %d", result);
        gpuClose(g);
        return NULL;
    }
#define LOAD(name) g->name = (PFN_vk##name)g->GetInstanceProcAddr(g->handle, "vk" #name);
    INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
    if (validation) {
        PFN_vkCreateDebugUtilsMessengerEXT make = (PFN_vkCreateDebugUtilsMessengerEXT)g->GetInstanceProcAddr(g->handle, "vkCreateDebugUtilsMessengerEXT");
        g->destroyMessenger = (PFN_vkDestroyDebugUtilsMessengerEXT)g->GetInstanceProcAddr(g->handle, "vkDestroyDebugUtilsMessengerEXT");
        if (make) make(g->handle, &messenger, NULL, &g->messenger);
    }
    g->deviceCount = 16;
    if (g->EnumeratePhysicalDevices(g->handle, &g->deviceCount, g->devices) < 0) g->deviceCount = 0;
    return g;
}

void gpuClose(GPUInstance *g) {
    if (!g) return;
    if (g->messenger) g->destroyMessenger(g->handle, g->messenger, NULL);
    if (g->handle) g->DestroyInstance(g->handle, NULL);
    for (int i = 0; i < g->messageCount; i++) free(g->messages[i]);
    free(g->messages);
    // The loader stays open: drivers do not survive being unloaded while their threads end.
    pthread_mutex_destroy(&g->lock);
    free(g);
}

int gpuCount(GPUInstance *g) { return (int)g->deviceCount; }

int gpuMessageCount(GPUInstance *g) {
    pthread_mutex_lock(&g->lock);
    int count = g->messageCount;
    pthread_mutex_unlock(&g->lock);
    return count;
}

void gpuMessage(GPUInstance *g, int index, char *text, size_t bytes) {
    pthread_mutex_lock(&g->lock);
    snprintf(text, bytes, "%s", index >= 0 && index < g->messageCount ? g->messages[index] : "");
    pthread_mutex_unlock(&g->lock);
}

static int hasBudget(GPUInstance *g, VkPhysicalDevice device) {
    uint32_t count = 0;
    g->EnumerateDeviceExtensionProperties(device, NULL, &count, NULL);
    VkExtensionProperties *all = calloc(count + 1, sizeof *all);
    int found = 0;
    if (all && g->EnumerateDeviceExtensionProperties(device, NULL, &count, all) >= 0)
        for (uint32_t i = 0; i < count; i++) found |= !strcmp(all[i].extensionName, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    free(all);
    return found;
}

enum { MOST_FAMILIES = 32 };
typedef struct { VkQueueFamilyProperties all[MOST_FAMILIES]; uint32_t count; int compute; } Families;

/// `compute` prefers a family without graphics: asynchronous compute. -1: none.
static Families families(GPUInstance *g, VkPhysicalDevice device) {
    Families f = { .count = MOST_FAMILIES, .compute = -1 };
    g->GetPhysicalDeviceQueueFamilyProperties(device, &f.count, f.all);
    for (uint32_t i = 0; i < f.count; i++) {
        if (!(f.all[i].queueFlags & VK_QUEUE_COMPUTE_BIT)) continue;
        if (f.compute < 0 || ((f.all[f.compute].queueFlags & VK_QUEUE_GRAPHICS_BIT) && !(f.all[i].queueFlags & VK_QUEUE_GRAPHICS_BIT))) f.compute = (int)i;
    }
    return f;
}

/// A family that only copies, and any part of an image. -1: none.
static int copyFamily(const Families *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        const VkExtent3D grain = f->all[i].minImageTransferGranularity;
        const VkQueueFlags flags = f->all[i].queueFlags;
        if ((flags & VK_QUEUE_TRANSFER_BIT) && !(flags & (VK_QUEUE_COMPUTE_BIT | VK_QUEUE_GRAPHICS_BIT)) && grain.width == 1 && grain.height == 1 && grain.depth == 1) return (int)i;
    }
    return -1;
}

void gpuInfo(GPUInstance *g, int index, GPUInfo *info) {
    memset(info, 0, sizeof *info);
    VkPhysicalDevice device = g->devices[index];
    VkPhysicalDeviceMaintenance3Properties most = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES };
    VkPhysicalDeviceDriverProperties driver = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES, .pNext = &most };
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };
    g->GetPhysicalDeviceProperties2(device, &p);
    info->version = p.properties.apiVersion;
    if (p.properties.apiVersion >= VK_API_VERSION_1_2) {
        p.pNext = &driver;
        g->GetPhysicalDeviceProperties2(device, &p);
        VkPhysicalDeviceVulkan12Features features12 = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES };
        VkPhysicalDeviceFeatures2 features = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &features12 };
        g->GetPhysicalDeviceFeatures2(device, &features);
        info->hasTimelines = features12.timelineSemaphore != 0;
    }
    snprintf(info->name, sizeof info->name, "%s", p.properties.deviceName);
    snprintf(info->driver, sizeof info->driver, "%s %s", driver.driverName, driver.driverInfo);
    switch (p.properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: info->kind = GPUKindIntegrated; break;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: info->kind = GPUKindDiscrete; break;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: info->kind = GPUKindVirtual; break;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: info->kind = GPUKindSoftware; break;
    default: info->kind = GPUKindOther;
    }
    const VkPhysicalDeviceLimits *l = &p.properties.limits;
    info->hasComputeQueue = families(g, device).compute >= 0;
    info->reportsBudget = hasBudget(g, device);
    info->longestImageAxis = l->maxImageDimension3D;
    info->sampledImages = l->maxPerStageDescriptorSampledImages;
    info->storageBuffers = l->maxPerStageDescriptorStorageBuffers;
    info->workgroup = l->maxComputeWorkGroupInvocations;
    info->largestAllocation = most.maxMemoryAllocationSize;
    info->largestStorageRange = l->maxStorageBufferRange;
    VkPhysicalDeviceMemoryProperties memory;
    g->GetPhysicalDeviceMemoryProperties(device, &memory);
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
        if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && memory.memoryHeaps[i].size > info->localBytes) info->localBytes = memory.memoryHeaps[i].size;
}

static int filters(GPUInstance *g, VkPhysicalDevice device, VkFormat format) {
    VkFormatProperties p;
    g->GetPhysicalDeviceFormatProperties(device, format, &p);
    const VkFormatFeatureFlags needs = VK_FORMAT_FEATURE_SAMPLED_IMAGE_BIT | VK_FORMAT_FEATURE_SAMPLED_IMAGE_FILTER_LINEAR_BIT;
    return (p.optimalTilingFeatures & needs) == needs;
}

/// A software driver whose every image format can be a storage image. Others have texture units, and layouts that a storage image may not have.
static int loads(GPUInstance *g, VkPhysicalDevice device) {
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };
    g->GetPhysicalDeviceProperties2(device, &p);
    VkPhysicalDeviceFeatures2 features = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2 };
    g->GetPhysicalDeviceFeatures2(device, &features);
    int all = p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU && features.features.shaderStorageImageExtendedFormats && p.properties.limits.maxPerStageDescriptorStorageImages >= 16;
    for (int i = 0; i < GPUFormatCount; i++) {
        VkFormatProperties format;
        g->GetPhysicalDeviceFormatProperties(device, imageFormats[i], &format);
        all = all && (format.optimalTilingFeatures & VK_FORMAT_FEATURE_STORAGE_IMAGE_BIT);
    }
    return all;
}

int gpuLoads(GPUDevice *d) { return d->loads; }

int gpuHasQueue(GPUDevice *d, GPUQueue queue) { return d->queues[queue].handle != VK_NULL_HANDLE; }

int gpuCreate(GPUInstance *g, int index, int flags, GPUDevice **out) {
    *out = NULL;
    GPUDevice *d = calloc(1, sizeof *d);
    if (!d) return GPU_OUT_OF_HOST_MEMORY;
    d->instance = g; d->physical = g->devices[index]; d->loseAfter = -1;
    pthread_mutex_init(&d->lock, NULL);
    const Families f = families(g, d->physical);
    const int copies = copyFamily(&f);
    if (f.compute < 0) { free(d); return VK_ERROR_FEATURE_NOT_PRESENT; }
    // Copy engines first, then further queues of the family that computes.
    uint32_t used[MOST_FAMILIES] = { 0 }, numbers[GPUQueueCount] = { 0 };
    used[f.compute] = 1;
    int chosen[GPUQueueCount] = { f.compute, -1, -1 };
    for (int q = GPUQueueUpload; q < GPUQueueCount; q++) {
        chosen[q] = copies >= 0 && used[copies] < f.all[copies].queueCount ? copies : used[f.compute] < f.all[f.compute].queueCount ? f.compute : -1;
        if (chosen[q] >= 0) numbers[q] = used[chosen[q]]++;
    }
    d->reportsBudget = hasBudget(g, d->physical);
    g->GetPhysicalDeviceMemoryProperties(d->physical, &d->memory);
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };
    g->GetPhysicalDeviceProperties2(d->physical, &p);
    d->nanosecondsPerTick = f.all[f.compute].timestampValidBits ? p.properties.limits.timestampPeriod : 0;
    d->uniformAlignment = p.properties.limits.minUniformBufferOffsetAlignment;
    d->storageAlignment = p.properties.limits.minStorageBufferOffsetAlignment;
    const float priorities[GPUQueueCount] = { 1, 1, 1 };
    VkDeviceQueueCreateInfo queues[2];
    for (uint32_t i = 0; i < f.count; i++) {
        if (!used[i]) continue;
        queues[d->familyCount] = (VkDeviceQueueCreateInfo){ VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = i, .queueCount = used[i], .pQueuePriorities = priorities };
        d->families[d->familyCount++] = i;
    }
    VkPhysicalDeviceVulkan12Features has = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES };
    VkPhysicalDeviceFeatures2 asked = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &has };
    g->GetPhysicalDeviceFeatures2(d->physical, &asked);
    VkPhysicalDeviceVulkan12Features features = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .timelineSemaphore = VK_TRUE, .hostQueryReset = has.hostQueryReset };
    const char *extensions[] = { VK_EXT_MEMORY_BUDGET_EXTENSION_NAME };
    d->loads = !(flags & GPU_TEXTURES) && loads(g, d->physical);
    d->apart = (flags & GPU_APART) != 0;
    const VkPhysicalDeviceFeatures core = { .shaderStorageImageExtendedFormats = d->loads ? VK_TRUE : VK_FALSE };
    const VkDeviceCreateInfo info = { VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &features, .pEnabledFeatures = &core, .queueCreateInfoCount = d->familyCount, .pQueueCreateInfos = queues,
        .enabledExtensionCount = d->reportsBudget ? 1 : 0, .ppEnabledExtensionNames = extensions };
    VkResult r = g->CreateDevice(d->physical, &info, NULL, &d->handle);
    if (r < 0) { free(d); return r; }
#define LOAD(name) d->name = (PFN_vk##name)g->GetDeviceProcAddr(d->handle, "vk" #name);
    DEVICE_FUNCTIONS(LOAD)
#undef LOAD
    for (int q = 0; q < GPUQueueCount; q++) {
        if (chosen[q] < 0 && !d->apart) continue;
        Queue *queue = d->queues + q;
        queue->family = (uint32_t)(chosen[q] < 0 ? f.compute : chosen[q]);
        // A queue that only copies cannot reset its marks itself.
        queue->marks = f.all[queue->family].timestampValidBits && (q == GPUQueueCompute || has.hostQueryReset);
        d->GetDeviceQueue(d->handle, queue->family, numbers[q], &queue->handle);
    }
    d->filtersInt16 = filters(g, d->physical, VK_FORMAT_R16_SNORM);
    d->filtersFloat = filters(g, d->physical, VK_FORMAT_R32_SFLOAT);
    const VkSamplerCreateInfo sampler = { VK_STRUCTURE_TYPE_SAMPLER_CREATE_INFO, .magFilter = VK_FILTER_LINEAR, .minFilter = VK_FILTER_LINEAR,
        .addressModeU = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE, .addressModeV = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE, .addressModeW = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE };
    r = d->CreateSampler(d->handle, &sampler, NULL, &d->sampler);
    if (r < 0) { gpuDestroy(d); return r; }
    const VkSemaphoreTypeCreateInfo type = { VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO, .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE };
    const VkSemaphoreCreateInfo semaphore = { VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type };
    for (int q = 0; q < GPUQueueCount; q++) {
        if (!d->queues[q].handle) continue;
        r = d->CreateSemaphore(d->handle, &semaphore, NULL, &d->queues[q].timeline);
        if (r < 0) { gpuDestroy(d); return r; }
    }
    *out = d;
    return 0;
}

void gpuBudget(GPUDevice *d, uint64_t *used, uint64_t *budget) {
    *used = *budget = 0;
    if (!d->reportsBudget) return;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT figures = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT };
    VkPhysicalDeviceMemoryProperties2 p = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &figures };
    d->instance->GetPhysicalDeviceMemoryProperties2(d->physical, &p);
    for (uint32_t i = 0; i < p.memoryProperties.memoryHeapCount; i++)
        if ((p.memoryProperties.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && figures.heapBudget[i] > *budget) {
            *budget = figures.heapBudget[i];
            *used = figures.heapUsage[i];
        }
}
