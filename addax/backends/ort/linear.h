/* A linear layer of the dialect: what its operator takes, what its kernel keeps. */
#ifndef ADDAX_LINEAR_H
#define ADDAX_LINEAR_H

#include "op.h"

#define STEPS 15 /* of stairs, which levels of activations may be */

struct linear_op {
    struct op op;
    const char *weights;           /* name of input 1 */
    int table, multipliers, scale; /* their inputs; 0: it has none */
    int entries;                   /* the input that says what levels of activations mean */
};

struct linear {
    const struct linear_op *op;
    const struct path *path;
    int32_t outputs, groups, group;      /* groups * group columns, the last ones padded */
    int32_t least_columns, most_columns; /* that X may have */
    void *memory;                        /* holds what follows */
    const uint8_t *codes, *table, *multipliers;
    const float *scale;
    struct levels {
        float step, low, high; /* of x / step */
        int32_t shift;         /* from there to a code, or to a place among the entries - 128 */
        const int8_t *entries; /* NULL if levels are codes, or stairs */
        int32_t steps;         /* of stairs; -1: there are none */
        int32_t starts[STEPS], jumps[STEPS];
    } levels;
};

/* Checks the weights of a node and keeps a copy of them, with the path that they take. */
OrtStatus *read_weights(const OrtKernelInfo *info, struct linear *made);

#endif
