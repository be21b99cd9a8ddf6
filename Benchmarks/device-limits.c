/* What the memory of each Vulkan device does at most, as a JSON list: cc -O2 device-limits.c -lvulkan -o device-limits; ./device-limits
 * Copies within device memory, best of many; a byte copied is one read and one written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vulkan/vulkan.h>

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
#define CHECK(call) do { if ((call) != VK_SUCCESS) { return 0; } } while (0)

/* Bytes moved per second, read and written; 0 when the device refused. What is made is left to the end of the process. */
static double copying(VkPhysicalDevice physical, VkDeviceSize bytes) {
    uint32_t families = 0, family = UINT32_MAX;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &families, NULL);
    VkQueueFamilyProperties *properties = calloc(families, sizeof *properties);
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &families, properties);
    for (uint32_t i = 0; i < families && family == UINT32_MAX; i++) if (properties[i].queueFlags & VK_QUEUE_COMPUTE_BIT) family = i;
    free(properties);
    if (family == UINT32_MAX) return 0;
    const float priority = 1;
    const VkDeviceQueueCreateInfo queueInfo = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = family, .queueCount = 1, .pQueuePriorities = &priority };
    const VkDeviceCreateInfo deviceInfo = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .queueCreateInfoCount = 1, .pQueueCreateInfos = &queueInfo };
    VkDevice device;
    CHECK(vkCreateDevice(physical, &deviceInfo, NULL, &device));
    VkQueue queue;
    vkGetDeviceQueue(device, family, 0, &queue);
    VkPhysicalDeviceMemoryProperties memories;
    vkGetPhysicalDeviceMemoryProperties(physical, &memories);
    VkBuffer buffers[2];
    for (int k = 0; k < 2; k++) {
        const VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes, .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT };
        CHECK(vkCreateBuffer(device, &info, NULL, &buffers[k]));
        VkMemoryRequirements need;
        vkGetBufferMemoryRequirements(device, buffers[k], &need);
        uint32_t type = UINT32_MAX;
        for (uint32_t i = 0; i < memories.memoryTypeCount && type == UINT32_MAX; i++)
            if (need.memoryTypeBits >> i & 1 && memories.memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) type = i;
        if (type == UINT32_MAX) return 0;
        const VkMemoryAllocateInfo allocation = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = need.size, .memoryTypeIndex = type };
        VkDeviceMemory memory;
        CHECK(vkAllocateMemory(device, &allocation, NULL, &memory));
        CHECK(vkBindBufferMemory(device, buffers[k], memory, 0));
    }
    const VkCommandPoolCreateInfo poolInfo = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family };
    VkCommandPool pool;
    CHECK(vkCreateCommandPool(device, &poolInfo, NULL, &pool));
    const VkCommandBufferAllocateInfo commandsInfo = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = pool, .commandBufferCount = 1 };
    VkCommandBuffer commands;
    CHECK(vkAllocateCommandBuffers(device, &commandsInfo, &commands));
    const VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO };
    CHECK(vkBeginCommandBuffer(commands, &begin));
    vkCmdFillBuffer(commands, buffers[0], 0, VK_WHOLE_SIZE, 1);
    const VkMemoryBarrier barrier = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT, .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT };
    const int copies = 4;
    for (int k = 0; k < copies; k++) {
        vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
        const VkBufferCopy region = { .size = bytes };
        vkCmdCopyBuffer(commands, buffers[k % 2], buffers[1 - k % 2], 1, &region);
    }
    CHECK(vkEndCommandBuffer(commands));
    const VkFenceCreateInfo fenceInfo = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
    VkFence fence;
    CHECK(vkCreateFence(device, &fenceInfo, NULL, &fence));
    double best = 1e30;
    for (int pass = 0; pass < 12; pass++) {
        const VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands };
        const double start = now();
        CHECK(vkQueueSubmit(queue, 1, &submit, fence));
        CHECK(vkWaitForFences(device, 1, &fence, VK_TRUE, 20000000000ull));
        const double t = now() - start;
        if (t < best) best = t;
        CHECK(vkResetFences(device, 1, &fence));
    }
    /* The fill writes once. */
    return (2.0 * copies + 1) * (double)bytes / best;
}

int main(void) {
    const VkApplicationInfo application = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1 };
    const VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application };
    VkInstance instance;
    uint32_t count = 8;
    VkPhysicalDevice devices[8];
    if (vkCreateInstance(&info, NULL, &instance) != VK_SUCCESS || vkEnumeratePhysicalDevices(instance, &count, devices) < 0) count = 0;
    printf("[");
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties p;
        vkGetPhysicalDeviceProperties(devices[i], &p);
        for (char *c = p.deviceName; *c; c++) if (*c == '"' || *c == '\\') *c = ' ';
        const int isSoftware = p.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
        printf("%s{\"name\": \"%s\", \"driver\": \"%u.%u.%u\", \"software\": %s, \"copyGBs\": %.1f}", i ? ", " : "", p.deviceName, VK_VERSION_MAJOR(p.driverVersion),
               VK_VERSION_MINOR(p.driverVersion), VK_VERSION_PATCH(p.driverVersion), isSoftware ? "true" : "false",
               copying(devices[i], isSoftware ? 64u << 20 : 512u << 20) * 1e-9);
    }
    printf("]\n");
    return 0;
}
