/* Reads the packed weights of a linear layer when its node is made: checked once, copied once. */
#include "linear.h"

#include <stdio.h>
#include <string.h>

#define LEVELS 256 /* of an activation whose range is known */

/* Bits of a code, planes of signs, or neither: the form of the weights and their shape. */
static OrtStatus *read_form(const struct linear_op *op, const OrtKernelInfo *info,
                            struct linear *made, const struct tensor *in, char form[16]) {
    const struct tensor *weights = &in[1];
    const int64_t tiles = (in[op->scale].dims[0] + TILE - 1) / TILE;
    const int64_t steps = weights->rank > 1 ? weights->dims[1] : 1;
    int64_t group = 4 * steps, bits = 0;
    if (op->multipliers) {
        TRY(ort.GetInteger(info, "group", &group));
        if (group < 32 || group > 128 || group % 32)
            return invalid("addax:%s: expected group 32, 64, 96 or 128, got %lld", op->op.name,
                           (long long)group);
    }
    made->groups = op->multipliers ? (int32_t)steps : 1;
    made->most_columns = made->groups * (int32_t)group;
    made->least_columns = made->most_columns - (op->multipliers ? (int32_t)group : 4) + 1;
    made->group = ceil_div((int32_t)group, INT8_COLUMNS) * INT8_COLUMNS;
    if (op->table) {
        TRY(ort.GetInteger(info, "bits", &bits));
        if (bits != 2 && bits != 4)
            return invalid("addax:%s: expected bits 2 or 4, got %lld", op->op.name,
                           (long long)bits);
        snprintf(form, 16, "codebook%d", (int)bits);
        return expect_shape(&op->op, op->weights, weights, 5,
                            (int64_t[]){tiles, steps, group * bits / 32, TILE, 4});
    }
    if (op->multipliers) {
        const int64_t planes = weights->rank > 2 ? weights->dims[2] : 0;
        snprintf(form, 16, "binary%d", planes > 0 && planes < 100 ? (int)planes : 0);
        return expect_shape(&op->op, op->weights, weights, 7,
                            (int64_t[]){tiles, steps, planes, 4, group / 32, 16, 4});
    }
    snprintf(form, 16, op->entries ? "static" : "int8");
    return expect_shape(&op->op, op->weights, weights, 4, (int64_t[]){tiles, steps, TILE, 4});
}

static OrtStatus *check_others(const struct linear_op *op, const struct tensor *in) {
    const struct tensor *weights = &in[1];
    const int64_t *dims = weights->dims;
    if (op->table) {
        TRY(expect_shape(&op->op, "multipliers", &in[op->multipliers], 3,
                         (int64_t[]){dims[0], dims[1], TILE}));
        const int64_t entries = in[op->table].rank == 1 ? in[op->table].dims[0] : -1;
        if (entries != 4 && entries != 16)
            return expect_shape(&op->op, "table", &in[op->table], 1, (int64_t[]){16});
    } else if (op->multipliers) {
        TRY(expect_shape(&op->op, "multipliers", &in[op->multipliers], 4,
                         (int64_t[]){dims[0], dims[1], dims[2], TILE}));
    }
    return NULL;
}

/* The kernel reads this copy alone: it is aligned and lies in huge pages. */
static OrtStatus *keep(struct linear *made, const struct tensor *in) {
    const struct linear_op *op = made->op;
    const size_t tiles = (size_t)in[1].dims[0], tile = tiles ? in[1].bytes / tiles : 0;
    const size_t padded = op->multipliers ? tile : (size_t)TILE * (size_t)made->group;
    size_t bytes = TILE + aligned(tiles * padded);
    for (int i = 2; i < op->op.inputs; i++) bytes += aligned(in[i].bytes);
    char *at = made->memory = weights_allocate(bytes);
    if (!at) return ort.CreateStatus(ORT_FAIL, "addax: no memory for the weights");
    copy_tiles(at, in[1].data, tiles, tile, padded);
    made->codes = (const uint8_t *)at;
    at += aligned(tiles * padded);
    for (int i = 2; i < op->op.inputs; i++) {
        if (i == op->table) {
            for (size_t j = 0; j < TILE; j++) at[j] = ((const char *)in[i].data)[j % in[i].bytes];
            made->table = (const uint8_t *)at;
            at += TILE;
            continue;
        }
        memcpy(at, in[i].data, in[i].bytes);
        if (i == op->multipliers) made->multipliers = (const uint8_t *)at;
        if (i == op->scale) made->scale = (const float *)at;
        if (i == op->entries) made->levels.entries = (const int8_t *)at;
        at += aligned(in[i].bytes);
    }
    return NULL;
}

/* What levels of activations mean. Entries that rise by one and then stay are
   levels themselves; few runs of entries are stairs. */
static OrtStatus *read_levels(const OrtKernelInfo *info, struct linear *made,
                              const struct tensor *in) {
    const struct linear_op *op = made->op;
    struct levels *levels = &made->levels;
    int64_t zero = 0;
    TRY(expect_shape(&op->op, "table", &in[op->entries], 1, (int64_t[]){LEVELS}));
    TRY(ort.GetFloat(info, "step", &levels->step));
    TRY(ort.GetInteger(info, "zero", &zero));
    if (!(levels->step > 0) || zero < 0 || zero >= LEVELS)
        return invalid("addax:%s: expected step above 0 and zero from 0 to 255, got %g and %lld",
                       op->op.name, (double)levels->step, (long long)zero);
    const int8_t *entries = in[op->entries].data;
    int32_t changes = 0;
    int is_even = 1;
    for (int32_t i = 1; i < LEVELS; i++) {
        if (entries[i] == entries[i - 1]) continue;
        if (changes < STEPS) {
            levels->starts[changes] = i - (int32_t)zero;
            levels->jumps[changes] = entries[i] - entries[i - 1];
        }
        is_even &= i == ++changes && entries[i] == entries[i - 1] + 1;
    }
    const int is_stairs = !is_even && changes <= STEPS;
    const int32_t from = (int32_t)zero;
    for (int32_t i = changes; i < STEPS; i++) levels->starts[i] = LEVELS;
    levels->low = (float)-zero;
    levels->high = (float)((is_even ? changes : LEVELS - 1) - zero);
    levels->shift = is_stairs ? entries[0] : from + (is_even ? entries[0] : -LEVELS / 2);
    levels->steps = is_stairs ? changes : -1;
    if (is_even || is_stairs) levels->entries = NULL;
    return NULL;
}

OrtStatus *read_weights(const OrtKernelInfo *info, struct linear *made) {
    const struct linear_op *op = made->op;
    struct tensor in[5];
    char form[16];
    for (int i = 1; i < op->op.inputs; i++) TRY(read_constant(&op->op, info, i, &in[i]));
    if (in[op->scale].rank != 1)
        return invalid("addax:%s: expected scale of shape [N], got one of %zu dimensions",
                       op->op.name, in[op->scale].rank);
    TRY(read_form(op, info, made, in, form));
    TRY(check_others(op, in));
    if (op->table && in[op->table].dims[0] != (strcmp(form, "codebook4") ? 4 : 16))
        return invalid("addax:%s: expected a table of 2^bits entries, got %lld", op->op.name,
                       (long long)in[op->table].dims[0]);
    if (made->most_columns < 1)
        return invalid("addax:%s: expected weights of at least one column", op->op.name);
    made->outputs = (int32_t)in[op->scale].dims[0];
    TRY(find_path(&op->op, form, &made->path));
    TRY(keep(made, in));
    return op->entries ? read_levels(info, made, in) : NULL;
}
