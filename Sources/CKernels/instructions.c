#define _GNU_SOURCE
#include "instructions.h"
#include <sched.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>

static int halves512;

/// Once, since a virtual machine's host answers in its place.
__attribute__((constructor)) static void lookAtProcessor(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d)) return;
    const int isAMD = b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    // Zen 4 is the only such processor with the instructions that `bestInstructions` asks for: family 25; Zen 5 is 26.
    halves512 = isAMD && (a >> 8 & 15) + (a >> 20 & 255) == 25;
}

int splitsWideVectors(void) { return halves512; }
#else
int splitsWideVectors(void) { return 0; }
#endif

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
