/* A linear layer of the dialect: what its operator takes, what its kernel keeps. */
#ifndef ADDAX_LINEAR_H
#define ADDAX_LINEAR_H

#include "library.h"

#define MAX_RANK 16

struct linear_op {
    OrtCustomOp base;
    const char *name;
    const char *weights;           /* name of input 1 */
    int table, multipliers, scale; /* their inputs; 0: it has none */
    int inputs;
    int types[5];
};

struct linear {
    const struct linear_op *op;
    const struct path *path;
    int32_t outputs, groups, group; /* groups * group columns, the last ones padded */
    int32_t least_columns, most_columns; /* that X may have */
    void *memory;                   /* holds what follows */
    const uint8_t *codes, *table, *multipliers;
    const float *scale;
};

/* Checks the weights of a node and keeps a copy of them, with the path that they take. */
OrtStatus *read_weights(const OrtKernelInfo *info, struct linear *made);

/* Rank and dimensions of a shape, which is released. */
OrtStatus *read_dimensions(OrtShape *shape, int64_t *dims, size_t *rank);

/* "[2, 3]", for messages. */
const char *shape_text(const int64_t *dims, size_t rank, char *text, size_t size);

#endif
