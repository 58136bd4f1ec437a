/* What the files of this library share: the runtime's functions, kernels, memory, threads. */
#ifndef ADDAX_LIBRARY_H
#define ADDAX_LIBRARY_H

#include "abi.h"

#define TILE      64 /* output rows in a tile of packed weights */
#define ALIGNMENT 64 /* bytes; of everything that a kernel is given */

#define TRY(call)                                                                                  \
    do {                                                                                           \
        OrtStatus *status = (call);                                                                \
        if (status) return status;                                                                 \
    } while (0)

extern struct ort_functions ort;

/* --- kernels: machine code that addax made, one object for each instruction set --- */

/* Rows first to last-1 of activations to integers: q[groups][rows][group * width], and for each
   group and row the scale s and the sum of its integers. */
typedef void addax_prepare(const float *x, int8_t *q, float *s, int32_t *sum, int32_t rows,
                           int32_t columns, int32_t groups, int32_t group, int32_t first,
                           int32_t last);

/* The same for one group, by a range that is known beforehand: rint of x / step, which low and high
   bound, plus shift; the scale is 1. */
typedef void addax_levels(const float *x, int8_t *q, float *s, int32_t *sum, int32_t rows,
                          int32_t columns, int32_t groups, int32_t group, int32_t first,
                          int32_t last, float step, float low, float high, int32_t shift);
/* The same where runs of levels share a code: shift, and each jump whose start is reached. */
typedef void addax_stairs(const float *x, int8_t *q, float *s, int32_t *sum, int32_t rows,
                          int32_t columns, int32_t groups, int32_t group, int32_t first,
                          int32_t last, float step, float low, float high, int32_t shift,
                          const int32_t *starts, const int32_t *jumps);

/* Tiles first to last-1 of a linear layer, for all rows of activations that were prepared. Some
   kernels want memory: `weights` of TILE * group bytes, `sums` of TILE * rows floats. */
typedef void addax_linear(const int8_t *q, const float *s, const int32_t *sum, const uint8_t *codes,
                          const uint8_t *table, const uint8_t *multipliers, const float *scale,
                          float *y, uint8_t *weights, float *sums, int32_t rows, int32_t outputs,
                          int32_t groups, int32_t group, int32_t first, int32_t last);

/* Who calls a kernel casts it to one of these types. */
typedef void addax_function(void);

struct kernel {
    const char *name;
    addax_function *prepare; /* what makes integers of its inputs; NULL if it takes floats */
    addax_function *run;
    int32_t width; /* bytes of q for a column */
    int wants_memory;
};

/* How one form of weights, or one operator, is computed with one instruction set. */
struct path {
    const char *form; /* "codebook4", "binary3", ... */
    const char *isa;
    int32_t rank;      /* of the instruction set: 0 is preferred */
    int32_t many_from; /* so many rows of activations are `many` */
    struct kernel few, many;
};

/* cpu.c: the preferred path that this processor can take; NULL if there is none. */
const struct path *path_of(const char *form);
/* Whether there is one for some form that begins so. */
int has_path(const char *prefix);
/* Why the instruction set that ADDAX_ISA asks for cannot be had; NULL if it can. */
OrtStatus *check_forced_isa(void);
int has_isa(const char *isa);

/* --- memory.c --- */

/* Memory for weights, aligned, in huge pages where the system has them; NULL if there is none. */
void *weights_allocate(size_t bytes);
void weights_free(void *memory);

/* A buffer for the length of a call: a former one if one is free. The kind keeps sizes apart. */
struct buffer {
    void *data;
    size_t bytes;
};
enum { FOR_CALL, FOR_TASK, BUFFER_KINDS };
int buffer_take(struct buffer *buffer, int kind, size_t bytes);
void buffer_give(struct buffer *buffer, int kind);

/* --- ops --- */

OrtStatus *invalid(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

struct op;
/* All of them; the last one is NULL. */
extern const struct op *const linear_ops[];
extern const struct op *const log_code_ops[];
extern const struct op *const binary_attention_ops[];
extern const struct op *const mixture_ops[];

static inline size_t aligned(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}
static inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

#endif
