// An emulated line between two network namespaces: a relay between two TUN devices with rate, delay, jitter, loss and a
// drop-tail buffer in each direction. For kernels without netem; needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
//
//   relay NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B SEED
//
// Commands on standard input, each answered by one line:
//   set RATE DELAY JITTER LOSS BUFFER   bits/s (0 is unlimited), ms one way, ms, probability, ms of buffer; both directions
//   rate RATE                           a rate step; what is queued stays queued
//   stats                               packets and bytes forwarded, lost, and dropped at the full buffer, from A and from B
// It ends with its standard input.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MTU = 2048, SLOTS = 16384 };

typedef struct { double due; int length; unsigned char bytes[MTU]; } Packet;
typedef struct { Packet *slots; unsigned head, tail; } Ring;

typedef struct {
    int in, out;
    Ring waiting, flying;
    long queued;           // bytes waiting at the bottleneck
    double sending;        // when the packet at the head has been sent; 0 when none is
    double last;           // no packet overtakes another
    long packets, bytes, lost, dropped;
} Direction;

static double rate, delay, jitter, loss, buffer;
static uint64_t seed;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double uniform(void) {  // xorshift64*
    seed ^= seed >> 12; seed ^= seed << 25; seed ^= seed >> 27;
    return (double)((seed * 2685821657736338717ull) >> 11) / 9007199254740992.0;
}
static void fail(const char *what) { perror(what); exit(1); }

static int openTUN(const char *space, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", space);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) fail(path);
    close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) fail("/dev/net/tun");
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
    return fd;
}

static Packet *back(Ring *r) { return &r->slots[r->tail % SLOTS]; }
static Packet *front(Ring *r) { return &r->slots[r->head % SLOTS]; }
static int isEmpty(const Ring *r) { return r->head == r->tail; }
static int isFull(const Ring *r) { return r->tail - r->head == SLOTS; }

static void start(Direction *d, double t) {
    d->sending = isEmpty(&d->waiting) ? 0 : t + (rate > 0 ? 8.0 * front(&d->waiting)->length / rate : 0);
}

static void receive(Direction *d) {
    for (int i = 0; i < 64; i++) {
        Packet *p = back(&d->waiting), spill;
        int length = (int)read(d->in, isFull(&d->waiting) ? spill.bytes : p->bytes, MTU);
        if (length <= 0) return;
        double limit = rate * buffer / 8;
        if (isFull(&d->waiting) || (rate > 0 && d->queued + length > (limit > 6000 ? limit : 6000))) { d->dropped++; continue; }
        p->length = length;
        d->waiting.tail++;
        d->queued += length;
        if (d->sending == 0) start(d, now());
    }
}

static void advance(Direction *d) {
    double t = now();
    while (d->sending > 0 && d->sending <= t) {
        Packet *p = front(&d->waiting);
        double sent = d->sending;
        d->queued -= p->length;
        if (uniform() < loss || isFull(&d->flying)) d->lost++;
        else {
            Packet *q = back(&d->flying);
            memcpy(q->bytes, p->bytes, (size_t)p->length);
            q->length = p->length;
            q->due = sent + delay + jitter * uniform();
            if (q->due < d->last) q->due = d->last;
            d->last = q->due;
            d->flying.tail++;
        }
        d->waiting.head++;
        start(d, sent);
    }
    while (!isEmpty(&d->flying) && front(&d->flying)->due <= t) {
        Packet *p = front(&d->flying);
        if (write(d->out, p->bytes, (size_t)p->length) < 0 && errno == EAGAIN) break;
        d->packets++;
        d->bytes += p->length;
        d->flying.head++;
    }
}

static double wake(const Direction *d, double t) {
    if (d->sending > 0 && d->sending < t) t = d->sending;
    if (!isEmpty(&d->flying)) { double due = d->flying.slots[d->flying.head % SLOTS].due; if (due < t) t = due; }
    return t;
}

static void obey(char *line, Direction *d) {
    double r, l, j, p, b;
    if (sscanf(line, "set %lf %lf %lf %lf %lf", &r, &l, &j, &p, &b) == 5) {
        rate = r; delay = l / 1000; jitter = j / 1000; loss = p; buffer = b / 1000;
        puts("ok");
    } else if (sscanf(line, "rate %lf", &r) == 1) {
        rate = r;
        puts("ok");
    } else if (!strncmp(line, "stats", 5)) {
        printf("{\"fromA\": {\"packets\": %ld, \"bytes\": %ld, \"lost\": %ld, \"dropped\": %ld}, \"fromB\": {\"packets\": %ld, \"bytes\": %ld, \"lost\": %ld, \"dropped\": %ld}}\n",
               d[0].packets, d[0].bytes, d[0].lost, d[0].dropped, d[1].packets, d[1].bytes, d[1].lost, d[1].dropped);
    } else puts("unknown");
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 6) { fprintf(stderr, "usage: relay NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B SEED\n"); return 2; }
    int a = openTUN(arguments[1], arguments[2]), b = openTUN(arguments[3], arguments[4]);
    seed = strtoull(arguments[5], NULL, 10) * 0x9E3779B97F4A7C15ull | 1;
    Direction d[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
    for (int i = 0; i < 2; i++) {
        d[i].waiting.slots = calloc(SLOTS, sizeof(Packet));
        d[i].flying.slots = calloc(SLOTS, sizeof(Packet));
        if (!d[i].waiting.slots || !d[i].flying.slots) fail("calloc");
    }
    puts("ready");
    fflush(stdout);
    char line[256];
    size_t used = 0;
    for (;;) {
        double next = wake(&d[1], wake(&d[0], now() + 1)), t = next - now();
        if (t < 0) t = 0;
        struct timespec timeout = {(time_t)t, (long)(1e9 * (t - (double)(time_t)t))};
        struct pollfd fds[3] = {{a, POLLIN, 0}, {b, POLLIN, 0}, {0, POLLIN, 0}};
        if (ppoll(fds, 3, &timeout, NULL) < 0 && errno != EINTR) fail("ppoll");
        for (int i = 0; i < 2; i++) { if (fds[i].revents) receive(&d[i]); advance(&d[i]); }
        if (fds[2].revents) {
            ssize_t n = read(0, line + used, sizeof line - 1 - used);
            if (n <= 0) return 0;
            used += (size_t)n;
            line[used] = 0;
            for (char *end; (end = strchr(line, '\n')); ) {
                *end = 0;
                obey(line, d);
                used -= (size_t)(end + 1 - line);
                memmove(line, end + 1, used + 1);
            }
            if (used >= sizeof line - 1) used = 0;
        }
    }
}
