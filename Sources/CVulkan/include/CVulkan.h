// Vulkan 1.2 compute, reduced to what rendering needs: devices, memory, pipelines, command buffers, one timeline each.
// The loader is opened at run time, so that programs start on machines without Vulkan.
//
// Functions that can fail return 0 or a negative VkResult. A device and its commands belong to one thread at a time;
// buffers and images may be made and freed on any thread.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct GPUInstance GPUInstance;
typedef struct GPUDevice GPUDevice;
typedef struct GPUBuffer GPUBuffer;
typedef struct GPUImage GPUImage;
typedef struct GPUPipeline GPUPipeline;
typedef struct GPUCommands GPUCommands;

// VkResult codes that callers tell apart.
#define GPU_OUT_OF_HOST_MEMORY (-1)
#define GPU_OUT_OF_DEVICE_MEMORY (-2)
#define GPU_LOST (-4)
/// `gpuWait` only: not there yet.
#define GPU_TIMEOUT 2

typedef enum { GPUKindOther = 0, GPUKindIntegrated = 1, GPUKindDiscrete = 2, GPUKindVirtual = 3, GPUKindSoftware = 4 } GPUKind;

typedef struct {
    char name[256];
    char driver[256];
    GPUKind kind;
    uint32_t version;               // of the API, as VK_MAKE_API_VERSION
    int32_t hasTimelines, hasComputeQueue, reportsBudget;
    uint32_t longestImageAxis;      // of a volume image
    uint32_t sampledImages, storageBuffers; // per shader
    uint32_t workgroup;             // invocations
    uint64_t largestAllocation, largestStorageRange;
    uint64_t localBytes;            // of the largest device-local heap
} GPUInfo;

/// Opens Vulkan; NULL with a reason when there is none. `validation`: the Khronos layer with synchronisation validation (1) or with
/// checks that it adds to the shaders (2); its warnings and errors are kept as messages.
GPUInstance *gpuOpen(int validation, char *reason, size_t reasonBytes);
void gpuClose(GPUInstance *);
int gpuCount(GPUInstance *);
void gpuInfo(GPUInstance *, int index, GPUInfo *info);
int gpuMessageCount(GPUInstance *);
/// Copies a message; thread-safe.
void gpuMessage(GPUInstance *, int index, char *text, size_t bytes);

/// Work goes to up to three queues, each with a timeline: kernels; uploads of volumes, which run beside them; copies of pictures for the host.
typedef enum { GPUQueueCompute = 0, GPUQueueUpload = 1, GPUQueueReadback = 2 } GPUQueue;
/// What a queue's timeline has reached once that much of its work is done; 0: nothing.
typedef struct { GPUQueue queue; uint64_t value; } GPUPoint;

/// For tests: volumes are read as textures even where loads are faster.
#define GPU_TEXTURES 1
/// For tests: as on a GPU with memory and copy engines of its own. Device memory is not mapped, and work for queues that are missing goes to
/// the first, with command buffers, timelines and waits as if it were three.
#define GPU_APART 2
int gpuCreate(GPUInstance *, int index, int flags, GPUDevice **);
/// Whether work may be given to a queue.
int gpuHasQueue(GPUDevice *, GPUQueue);
/// Waits for the device. Everything made of it must be gone.
void gpuDestroy(GPUDevice *);
/// Bytes of device-local memory in use by this process and available to it, by the driver's figures; 0 when it gives none.
void gpuBudget(GPUDevice *, uint64_t *used, uint64_t *budget);
/// Bytes of device memory allocated here, and allocations so far.
uint64_t gpuAllocatedBytes(GPUDevice *);
uint64_t gpuAllocations(GPUDevice *);

/// Faults for tests: the next `count` allocations of at least `bytes` fail, or the device counts as lost from the submission after `count` more.
void gpuFailAllocations(GPUDevice *, int count, uint64_t bytes);
void gpuLoseAfter(GPUDevice *, int count);

typedef enum {
    GPUMemoryDevice = 0,            // device-local; mapped as well where all memory is the host's
    GPUMemoryUpload = 1,            // written by the host
    GPUMemoryReadback = 2,          // read by the host
} GPUMemory;
int gpuBuffer(GPUDevice *, uint64_t bytes, GPUMemory, GPUBuffer **);
/// As gpuBuffer in upload memory, readable as texels of four 32-bit integers.
int gpuTexels(GPUDevice *, uint64_t bytes, GPUBuffer **);
void gpuFreeBuffer(GPUBuffer *);
/// Host address, or NULL.
void *gpuContents(GPUBuffer *);

typedef enum {
    GPUFormatInt16 = 0, GPUFormatFloat = 1, GPUFormatColor = 2, GPUFormatRange = 3 /* two floats */, GPUFormatByte = 4,
} GPUFormat;
/// A volume, sampled by texel; in general layout from its first command on.
int gpuImage(GPUDevice *, GPUFormat, const uint32_t size[3], GPUImage **);
void gpuFreeImage(GPUImage *);
/// Whether shaders compiled for loads (`...Loads`) read volumes as storage images: on software drivers, which do by hand what a texture
/// unit does.
int gpuLoads(GPUDevice *);
/// Whether the image can be read through the linear sampler; 16-bit integers come as -1 ... 1 then, 32767 to one.
int gpuIsSmooth(GPUImage *);

/// `bindings`: per binding 'b' storage buffer, 'u' uniform block, 'i' sampled image, 'l' storage image that is only read, 't' texels,
/// 's' the linear sampler, whose binding holds nothing.
int gpuPipeline(GPUDevice *, const uint32_t *code, size_t bytes, const char *bindings, const uint32_t *constants, int constantCount, GPUPipeline **);
void gpuFreePipeline(GPUPipeline *);

/// `isSmooth`: the image as the sampler reads it.
typedef struct { GPUBuffer *buffer; GPUImage *image; uint64_t offset, bytes; int32_t isSmooth; } GPUBinding;
/// Bytes of push constants that every pipeline has.
#define GPU_PUSH_BYTES 64

/// Those of other queues than the first take copies only.
int gpuCommands(GPUDevice *, GPUQueue, GPUCommands **);
void gpuFreeCommands(GPUCommands *);
int gpuBegin(GPUCommands *);
/// Copies `bytes` to memory that lives as long as the submission and binds as 'u' or 'b'; NULL data only reserves. Returns the host address, NULL when there is none.
void *gpuParameters(GPUCommands *, const void *data, size_t bytes, GPUBinding *binding);
int gpuDispatch(GPUCommands *, GPUPipeline *, const GPUBinding *bindings, const void *push, int pushBytes, uint32_t x, uint32_t y, uint32_t z);
/// All writes before are visible to everything after.
void gpuBarrier(GPUCommands *);
void gpuPrepareImage(GPUCommands *, GPUImage *);
void gpuClearRange(GPUCommands *, GPUImage *, float low, float high);
/// Tightly packed slices z ... z + count - 1.
void gpuUpload(GPUCommands *, GPUBuffer *from, uint64_t offset, GPUImage *to, uint32_t z, uint32_t count);
/// Tightly packed texels of a box.
void gpuUploadBox(GPUCommands *, GPUBuffer *from, uint64_t offset, GPUImage *to, const uint32_t origin[3], const uint32_t size[3]);
void gpuCopy(GPUCommands *, GPUBuffer *from, GPUBuffer *to, uint64_t bytes);
void gpuCopyRange(GPUCommands *, GPUBuffer *from, uint64_t fromOffset, GPUBuffer *to, uint64_t toOffset, uint64_t bytes);
void gpuFill(GPUCommands *, GPUBuffer *, uint64_t offset, uint64_t bytes, uint32_t word);
/// Time of all work before this; at most 64 marks, later ones are dropped. Returns the mark or -1.
int gpuMark(GPUCommands *);
/// Hands over to the queue, which waits for two points first; `*value` is what its timeline reaches when done.
int gpuSubmit(GPUCommands *, const GPUPoint waits[2], uint64_t *value);
/// Submissions to a queue so far.
uint64_t gpuSubmitted(GPUDevice *, GPUQueue);
int gpuWait(GPUDevice *, GPUPoint, uint64_t nanoseconds);
/// Seconds between two marks of finished commands.
double gpuSeconds(GPUCommands *, int from, int to);
