/* Which kernels this processor can run, asked of the processor itself when the library is used. */
#include "library.h"

#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* The registers that the operating system saves: bit 2 those of AVX, bits 5 to 7 of AVX-512. */
static uint32_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has_all(uint32_t have, uint32_t wanted) { return (have & wanted) == wanted; }

static int has_vectors(int avx512) {
    uint32_t a, b, c, d, leaf1;
    if (!__get_cpuid(1, &a, &b, &leaf1, &d)) return 0;
    if (!has_all(leaf1, 1u << 12 | 1u << 27 | 1u << 28)) return 0; /* FMA, OSXSAVE, AVX */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!has_all(b, 1u << 5) || !has_all(saved_registers(), 0x6)) return 0; /* AVX2 */
    if (!avx512) return 1;
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const uint32_t vbmi_vnni = 1u << 1 | 1u << 11;
    return has_all(b, f_dq_bw_vl) && has_all(c, vbmi_vnni) && has_all(saved_registers(), 0xe6);
}

int has_isa(const char *isa) {
    if (!strcmp(isa, "avx512")) return has_vectors(1);
    if (!strcmp(isa, "avx2")) return has_vectors(0);
    return !strcmp(isa, "scalar") || !strcmp(isa, "nomul");
}

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
static int has_dotprod(void) { return (getauxval(AT_HWCAP) >> 20) & 1; }
#elif defined(__APPLE__)
#include <sys/sysctl.h>
static int has_dotprod(void) {
    int has = 0;
    size_t size = sizeof has;
    return !sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0) && has;
}
#else
static int has_dotprod(void) { return 0; }
#endif

int has_isa(const char *isa) {
    if (!strcmp(isa, "neondot")) return has_dotprod();
    return !strcmp(isa, "neon") || !strcmp(isa, "scalar") || !strcmp(isa, "nomul");
}

#else
int has_isa(const char *isa) { return !strcmp(isa, "scalar") || !strcmp(isa, "nomul"); }
#endif

/* The instruction set that the environment asks for, for tests; NULL if it asks for none. */
static const char *forced_isa(void) {
    const char *isa = getenv("ADDAX_ISA");
    return isa && *isa ? isa : NULL;
}

static int32_t rank_of(const char *isa) {
    for (const struct path *path = paths; path->form; path++)
        if (!strcmp(path->isa, isa)) return path->rank;
    return -1;
}

OrtStatus *check_forced_isa(void) {
    const char *isa = forced_isa();
    if (!isa || (rank_of(isa) >= 0 && has_isa(isa))) return NULL;
    return invalid("addax: ADDAX_ISA=%.32s, but %s; this library has kernels for %s", isa,
                   rank_of(isa) < 0 ? "there are no kernels of that name"
                                    : "this processor lacks that instruction set",
                   ISAS);
}

const struct path *path_of(const char *form) {
    const char *forced = forced_isa();
    const int32_t best = forced ? rank_of(forced) : 0;
    for (const struct path *path = paths; path->form; path++)
        if (path->rank >= best && !strcmp(path->form, form) && has_isa(path->isa)) return path;
    return NULL;
}

int has_path(const char *prefix) {
    for (const struct path *path = paths; path->form; path++)
        if (!strncmp(path->form, prefix, strlen(prefix)) && path_of(path->form)) return 1;
    return 0;
}
