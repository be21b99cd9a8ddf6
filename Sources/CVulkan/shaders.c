// The shaders of Shaders/, compiled by scripts/compile-shaders.sh.
#include "CVulkan.h"
#include <string.h>
#include "../../Shaders/spirv/shaders.inc"

GPUShader gpuShader(const char *name) {
    for (size_t i = 0; i < sizeof shaders / sizeof shaders[0]; i++) if (!strcmp(shaders[i].name, name)) return shaders[i];
    return (GPUShader){ name, 0, 0 };
}
const char *gpuShaderSources(void) { return sourceHash; }
