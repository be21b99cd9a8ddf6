/* What this machine can do at most, as one JSON object: cc -O3 -march=native -fopenmp limits.c -o limits; ./limits THREADS
 * Best of many short passes: on a shared machine the best pass is the one that nobody disturbed. */
#define _GNU_SOURCE
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
typedef float lanes __attribute__((vector_size(4 * WIDTH)));

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
static volatile float sink;

/* Ten independent chains hide the latency of the multiply-add on every core that has been built. */
static double fma_gflops(int threads) {
    const long rounds = 300000;
    double best = 1e30;
    for (int pass = 0; pass < 80; pass++) {
        double begin = now();
#pragma omp parallel num_threads(threads)
        {
            lanes a0 = {0}, a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, x = a0, y = a0;
            for (int k = 0; k < WIDTH; k++) { x[k] = 0.999f; y[k] = 0.001f; }
            for (long i = 0; i < rounds; i++) {
                a0 = a0 * x + y; a1 = a1 * x + y; a2 = a2 * x + y; a3 = a3 * x + y; a4 = a4 * x + y;
                a5 = a5 * x + y; a6 = a6 * x + y; a7 = a7 * x + y; a8 = a8 * x + y; a9 = a9 * x + y;
                /* Opaque to the compiler, which would otherwise shorten the chains; costs nothing. */
                __asm__ volatile("" : "+v"(a0), "+v"(a1), "+v"(a2), "+v"(a3), "+v"(a4), "+v"(a5), "+v"(a6), "+v"(a7), "+v"(a8), "+v"(a9));
            }
            a0 += a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9;
            sink = a0[0];
        }
        double t = now() - begin;
        if (t < best) best = t;
    }
    return 2e-9 * 10 * WIDTH * rounds * threads / best;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : omp_get_max_threads();
    omp_set_num_threads(threads);
    const size_t n = 48u << 20, window = 6u << 18;
    float *a, *b, *c;
    if (posix_memalign((void **)&a, 2 << 20, 4 * n) || posix_memalign((void **)&b, 2 << 20, 4 * n) || posix_memalign((void **)&c, 2 << 20, 4 * n)) return 1;
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) { a[i] = 1; b[i] = 2; c[i] = 3; }
    double read = 1e30, triad = 1e30, copy = 1e30;
    size_t at = 0;
    /* Each pass takes a window that no cache has kept. */
#define NEXT (at = (at + window) % n)
    for (int pass = 0; pass < 400; pass++) {
        NEXT;
        double t = now();
        float s = 0;
#pragma omp parallel for reduction(+ : s)
        for (size_t i = at; i < at + window; i += 64) {
            lanes sum = {0};
            for (size_t k = 0; k < 64; k += WIDTH) { lanes v; memcpy(&v, b + i + k, sizeof v); sum += v; }
            s += sum[0];
        }
        t = now() - t; sink = s;
        if (t < read) read = t;
        NEXT;
        t = now();
#pragma omp parallel for
        for (size_t i = at; i < at + window; i++) a[i] = b[i] + 0.5f * c[i];
        t = now() - t;
        if (t < triad) triad = t;
        NEXT;
        t = now();
#pragma omp parallel for
        for (size_t p = 0; p < 16; p++) memcpy(a + at + p * (window / 16), b + at + p * (window / 16), window / 4);
        t = now() - t;
        if (t < copy) copy = t;
    }
    printf("{\"threads\": %d, \"vectorBits\": %d, \"fmaGFLOPs\": %.1f, \"readGBs\": %.2f, \"triadGBs\": %.2f, \"copyGBs\": %.2f}\n",
           threads, 32 * WIDTH, fma_gflops(threads), 4e-9 * window / read, 12e-9 * window / triad, 8e-9 * window / copy);
    return 0;
}
