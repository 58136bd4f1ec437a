/* Memory that kernels read and write: weights in huge pages, buffers that calls hand on. */
#include "library.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(_WIN32)
#include <malloc.h>
static void *allocate(size_t alignment, size_t bytes) { return _aligned_malloc(bytes, alignment); }
static void release(void *memory) { _aligned_free(memory); }
#else
static void *allocate(size_t alignment, size_t bytes) {
    void *memory;
    return posix_memalign(&memory, alignment, bytes) ? NULL : memory;
}
static void release(void *memory) { free(memory); }
#endif

#if defined(__linux__)
#include <sys/mman.h>
static void ask_for_huge_pages(void *memory, size_t bytes) {
    madvise(memory, bytes, MADV_HUGEPAGE);
}
#else
static void ask_for_huge_pages(void *memory, size_t bytes) { (void)memory, (void)bytes; }
#endif

/* --- weights ---
   A huge page is 2 MB and a layer often less, so layers share slabs. Weights that lie in huge
   pages stream about 1.2 times faster: fewer misses of the address translation. */

#define HUGE_PAGE ((size_t)2 << 20)
#define SLAB ((size_t)32 << 20) /* address space: pages that are never written take no memory */

struct slab {
    char *memory;
    size_t bytes, used, users;
};

static atomic_flag slabs_busy = ATOMIC_FLAG_INIT;
static struct slab *current; /* new weights go here; it may have no user */

static void slab_leave(struct slab *slab) {
    if (!slab || --slab->users) return;
    release(slab->memory);
    free(slab);
}

static struct slab *slab_make(size_t bytes) {
    struct slab *slab = malloc(sizeof *slab);
    if (!slab) return NULL;
    slab->bytes = bytes < SLAB ? SLAB : (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    slab->memory = allocate(HUGE_PAGE, slab->bytes);
    slab->used = 0;
    slab->users = 1; /* being current counts as one */
    if (slab->memory) {
        ask_for_huge_pages(slab->memory, slab->bytes);
        return slab;
    }
    free(slab);
    return NULL;
}

static void *slabs_allocate(size_t bytes) {
    if (!current || current->bytes - current->used < bytes) {
        struct slab *made = slab_make(bytes);
        if (!made) return NULL;
        slab_leave(current);
        current = made;
    }
    char *memory = current->memory + current->used;
    current->used += bytes;
    current->users++;
    *(struct slab **)memory = current;
    return memory + ALIGNMENT;
}

void *weights_allocate(size_t bytes) {
    while (atomic_flag_test_and_set(&slabs_busy)) {
    }
    void *memory = slabs_allocate(aligned(bytes) + ALIGNMENT);
    atomic_flag_clear(&slabs_busy);
    return memory;
}

void weights_free(void *memory) {
    if (!memory) return;
    struct slab *slab = *(struct slab **)((char *)memory - ALIGNMENT);
    while (atomic_flag_test_and_set(&slabs_busy)) {
    }
    slab_leave(slab);
    if (slab == current && slab->users == 1) { /* nobody but us: the model is gone */
        slab_leave(slab);
        current = NULL;
    }
    atomic_flag_clear(&slabs_busy);
}

/* --- buffers ---
   Free buffers wait in slots; taking and giving one is an exchange of a pointer, so threads never
   wait for each other and a steady load allocates nothing. */

#define SLOTS        64
#define LARGEST_KEPT ((size_t)64 << 20)

struct slot {
    _Alignas(ALIGNMENT) _Atomic(struct buffer *) free; /* the header lies at the buffer's start */
};
static struct slot slots[BUFFER_KINDS][SLOTS];

/* Where a thread begins to look: stacks differ between threads, so their slots do. */
static size_t first_slot(void) {
    char here;
    return (size_t)((uintptr_t)&here >> 14) % SLOTS;
}

int buffer_take(struct buffer *buffer, int kind, size_t bytes) {
    size_t start = first_slot();
    for (size_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &slots[kind][(start + i) % SLOTS];
        if (!atomic_load_explicit(&slot->free, memory_order_relaxed)) continue;
        struct buffer *found = atomic_exchange(&slot->free, NULL);
        if (!found) continue;
        if (found->bytes >= bytes) {
            buffer->data = (char *)found + ALIGNMENT;
            buffer->bytes = found->bytes;
            return 1;
        }
        release(found); /* too small for this load: a larger one takes its place */
        break;
    }
    bytes = aligned(bytes + bytes / 4);
    struct buffer *made = allocate(ALIGNMENT, bytes + ALIGNMENT);
    if (!made) return 0;
    made->bytes = bytes;
    buffer->data = (char *)made + ALIGNMENT;
    buffer->bytes = bytes;
    return 1;
}

void buffer_give(struct buffer *buffer, int kind) {
    struct buffer *header = (struct buffer *)((char *)buffer->data - ALIGNMENT);
    size_t start = first_slot();
    for (size_t i = 0; i < SLOTS && header->bytes <= LARGEST_KEPT; i++) {
        struct buffer *nothing = NULL;
        struct slot *slot = &slots[kind][(start + i) % SLOTS];
        if (atomic_compare_exchange_strong(&slot->free, &nothing, header)) return;
    }
    release(header);
}
