#define _GNU_SOURCE
#include "instructions.h"
#include <sched.h>
#include <unistd.h>

Instructions bestInstructions(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) return InstructionsAVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionsAVX2;
#endif
    return InstructionsPortable;
}

int availableCores(void) {
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? cores : 1;
}
