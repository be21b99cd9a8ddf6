#include "present.h"
#include "kernel.h"

// Every path and vector width must round alike.
#pragma clang fp contract(off)

#define LANES 4
#define NAME(x) x##Portable
#include "present_body.h"

#if defined(__x86_64__)
#define LANES 8
#define NAME(x) x##AVX2
#pragma clang attribute push(__attribute__((target(AVX2))), apply_to = function)
#include "present_body.h"
#pragma clang attribute pop

#define LANES 16
#define NAME(x) x##AVX512
#pragma clang attribute push(__attribute__((target(AVX512))), apply_to = function)
#include "present_body.h"
#pragma clang attribute pop
#endif

void presentRows(const PresentWork *work, int y0, int y1, Instructions instructions) {
#if defined(__x86_64__)
    if (instructions == InstructionsAVX512) { presentAVX512(work, y0, y1); return; }
    if (instructions == InstructionsAVX2) { presentAVX2(work, y0, y1); return; }
#endif
    presentPortable(work, y0, y1);
}
