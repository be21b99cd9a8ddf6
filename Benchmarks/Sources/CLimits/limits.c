#include "limits.h"
#include <string.h>

#define CHAINS 12
typedef float Wide __attribute__((ext_vector_type(16)));
typedef float Half __attribute__((ext_vector_type(8)));
static volatile float sink;

#define ARITHMETIC(T, lanes) \
    T s[CHAINS]; \
    for (int c = 0; c < CHAINS; c++) s[c] = (T)(1.0f + (float)c); \
    const T m = (T)0.999999f, a = (T)1e-6f; \
    for (long i = 0; i < rounds; i++) for (int c = 0; c < CHAINS; c++) s[c] = __builtin_elementwise_fma(s[c], m, a); \
    for (int c = 1; c < CHAINS; c++) s[0] += s[c]; \
    sink = s[0][0]; \
    return (double)rounds * CHAINS * lanes * 2;

typedef unsigned Words __attribute__((ext_vector_type(16)));
#define READ \
    const Words *p = (const Words *)memory; \
    Words a = 0, b = 0, c = 0, d = 0; \
    for (size_t i = 0; i < bytes / 64; i += 4) { a += p[i]; b += p[i + 1]; c += p[i + 2]; d += p[i + 3]; } \
    a += b; c += d; a += c; \
    return a[0] ^ a[7];

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double arithmetic512(long rounds) { ARITHMETIC(Wide, 16) }
__attribute__((target("avx2,fma"))) static double arithmetic256(long rounds) { ARITHMETIC(Half, 8) }
__attribute__((target("avx512f"))) static unsigned read512(const void *memory, size_t bytes) { READ }
__attribute__((target("avx2"))) static unsigned read256(const void *memory, size_t bytes) { READ }
double limitsArithmetic(long rounds) { return __builtin_cpu_supports("avx512f") ? arithmetic512(rounds) : arithmetic256(rounds); }
unsigned limitsRead(const void *memory, size_t bytes) { return __builtin_cpu_supports("avx512f") ? read512(memory, bytes) : read256(memory, bytes); }
#else
double limitsArithmetic(long rounds) { ARITHMETIC(Half, 8) }
unsigned limitsRead(const void *memory, size_t bytes) { READ }
#endif
