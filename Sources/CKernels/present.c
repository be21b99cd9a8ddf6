#include "present.h"
#include "kernel.h"

// Every path and vector width must round alike.
#pragma clang fp contract(off)

#define LANES 4
#define NAME(x) x##Portable
#define TARGET
#include "present_body.h"

#if defined(__x86_64__)
#define LANES 8
#define NAME(x) x##AVX2
#define TARGET __attribute__((target("avx2,fma")))
#include "present_body.h"

#define LANES 16
#define NAME(x) x##AVX512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-256-bit")))
#include "present_body.h"
#endif

void presentRows(const PresentWork *work, int y0, int y1, Instructions instructions) {
#if defined(__x86_64__)
    if (instructions == InstructionsAVX512) { presentAVX512(work, y0, y1); return; }
    if (instructions == InstructionsAVX2) { presentAVX2(work, y0, y1); return; }
#endif
    presentPortable(work, y0, y1);
}
