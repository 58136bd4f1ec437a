/* The linear layers of the dialect: CodebookMatMul, BinaryMatMul, Int8MatMul, StaticInt8MatMul.

   Y[..., n] = sum_k X[..., k] w[n, k]. They differ in how packed weights become w, which is the
   kernels' affair; here weights are checked and kept, activations prepared, work handed out. */
#include "linear.h"

#include <stdatomic.h>
#include <stdlib.h>

#define BLOCK_ROWS         256       /* rows of activations at once: their sums stay in the cache */
#define ROW_STEP           8         /* blocks are multiples of it */
#define CHUNKS             32        /* about so many tasks: small enough for uneven cores */
#define WORTH_SHARING      (1 << 19) /* multiplications; fewer are done before a thread wakes up */
#define WORTH_SHARING_ROWS (1 << 17) /* activations to prepare */

static void destroy(void *kernel) {
    weights_free(((struct linear *)kernel)->memory);
    free(kernel);
}

static OrtStatus *create(const OrtCustomOp *base, OrtApi *api, const OrtKernelInfo *info,
                         void **out) {
    (void)api;
    struct linear *made = calloc(1, sizeof *made);
    if (!made) return ort.CreateStatus(ORT_FAIL, "addax: no memory for a kernel");
    made->op = (const struct linear_op *)base;
    OrtStatus *status = read_weights(info, made);
    if (status) destroy(made);
    else *out = made;
    return status;
}

/* --- computing --- */

struct call {
    const struct linear *layer;
    const struct kernel *kernel;
    const float *x;
    float *y;
    int8_t *q;
    float *s;
    int32_t *sum;
    int32_t rows, columns;
    size_t groups, width;      /* scales and bytes of q in a row */
    int32_t rows_each, blocks; /* of rows */
    int32_t tiles, tiles_each;
    atomic_int out_of_memory;
};

/* Rows of activations that are prepared and multiplied together. */
struct block {
    size_t row;
    int32_t rows;
};

static struct block block_of(const struct call *call, size_t i) {
    const size_t row = i * (size_t)call->rows_each;
    return (struct block){row, least(call->rows_each, call->rows - (int32_t)row)};
}

/* Places among the entries become the entries, in rows first to last-1 of a block. */
static void look_up(const struct call *call, struct block block, int32_t first, int32_t last) {
    const int8_t *entries = call->layer->levels.entries;
    for (size_t row = block.row + (size_t)first; row < block.row + (size_t)last; row++) {
        int8_t *q = call->q + row * call->width;
        int32_t total = 0;
        for (int32_t k = 0; k < call->columns; k++) {
            q[k] = entries[q[k] + 128];
            total += q[k];
        }
        call->sum[row] = total;
    }
}

/* Rows first to last-1 of a block, by a range that is known beforehand. */
static void prepare_levels(const struct call *call, struct block block, int32_t first,
                           int32_t last) {
    const struct levels *levels = &call->layer->levels;
    const struct path *path = call->layer->path;
    const float *x = call->x + block.row * (size_t)call->columns;
    int8_t *q = call->q + block.row * call->width;
    float *s = call->s + block.row;
    int32_t *sum = call->sum + block.row;
    const int32_t group = call->layer->group;
    if (levels->steps >= 0)
        ((addax_stairs *)path->many.prepare)(
            x, q, s, sum, block.rows, call->columns, 1, group, first, last, levels->step,
            levels->low, levels->high, levels->shift, levels->starts, levels->jumps);
    else
        ((addax_levels *)path->few.prepare)(x, q, s, sum, block.rows, call->columns, 1, group,
                                            first, last, levels->step, levels->low, levels->high,
                                            levels->shift);
    if (levels->entries) look_up(call, block, first, last);
}

/* Some rows of a block. */
static void prepare_task(void *user, size_t i) {
    const struct call *call = user;
    const size_t steps = (size_t)(call->rows_each / ROW_STEP);
    const struct block block = block_of(call, i / steps);
    const int32_t first = (int32_t)(i % steps) * ROW_STEP;
    if (first >= block.rows) return;
    if (call->layer->op->entries) {
        prepare_levels(call, block, first, least(first + ROW_STEP, block.rows));
        return;
    }
    ((addax_prepare *)call->kernel->prepare)(
        call->x + block.row * (size_t)call->columns, call->q + block.row * call->width,
        call->s + block.row * call->groups, call->sum + block.row * call->groups, block.rows,
        call->columns, call->layer->groups, call->layer->group, first,
        least(first + ROW_STEP, block.rows));
}

/* A block of rows times a run of tiles. */
static void multiply_task(void *user, size_t i) {
    struct call *call = user;
    const struct linear *layer = call->layer;
    const struct block block = block_of(call, i % (size_t)call->blocks);
    const int32_t first = (int32_t)(i / (size_t)call->blocks) * call->tiles_each;
    const size_t weights = (size_t)TILE * (size_t)layer->group;
    struct buffer memory = {NULL, 0};
    if (call->kernel->wants_memory &&
        !buffer_take(&memory, FOR_TASK, weights + TILE * sizeof(float) * (size_t)block.rows)) {
        call->out_of_memory = 1;
        return;
    }
    uint8_t *bytes = memory.data;
    ((addax_linear *)call->kernel->run)(
        call->q + block.row * call->width, call->s + block.row * call->groups,
        call->sum + block.row * call->groups, layer->codes, layer->table, layer->multipliers,
        layer->scale, call->y + block.row * (size_t)layer->outputs, bytes,
        bytes ? (float *)(bytes + weights) : NULL, block.rows, layer->outputs, layer->groups,
        layer->group, first, least(first + call->tiles_each, call->tiles));
    if (bytes) buffer_give(&memory, FOR_TASK);
}

/* How many rows and tiles a task takes. */
static void divide(struct call *call, int is_shared) {
    call->tiles = ceil_div(call->layer->outputs, TILE);
    call->blocks = ceil_div(call->rows, BLOCK_ROWS);
    if (is_shared && call->tiles * call->blocks < CHUNKS / 2 && call->rows > 2 * TILE) {
        call->blocks = least(ceil_div(CHUNKS / 2, call->tiles), call->rows / TILE);
    }
    call->rows_each = ceil_div(ceil_div(call->rows, call->blocks), ROW_STEP) * ROW_STEP;
    call->blocks = ceil_div(call->rows, call->rows_each);
    const int32_t runs = is_shared ? ceil_div(CHUNKS, call->blocks) : 1;
    call->tiles_each = ceil_div(call->tiles, runs);
}

static OrtStatus *multiply(const OrtKernelContext *context, struct call *call) {
    const struct linear *layer = call->layer;
    const int64_t work = (int64_t)call->rows * layer->outputs * call->columns;
    const int is_shared = work > WORTH_SHARING;
    divide(call, is_shared);
    TRY(run_tasks(context, prepare_task, call->blocks * (call->rows_each / ROW_STEP),
                  (int64_t)call->rows * call->columns > WORTH_SHARING_ROWS, call));
    TRY(run_tasks(context, multiply_task, call->blocks * ceil_div(call->tiles, call->tiles_each),
                  is_shared, call));
    return call->out_of_memory ? ort.CreateStatus(ORT_FAIL, "addax: no memory for a layer") : NULL;
}

static OrtStatus *with_buffers(const OrtKernelContext *context, struct call *call) {
    const struct linear *layer = call->layer;
    call->groups = (size_t)layer->groups;
    call->width = call->groups * (size_t)(layer->group * call->kernel->width);
    const size_t scales = (size_t)call->rows * call->groups;
    const size_t codes = aligned((size_t)call->rows * call->width + ALIGNMENT);
    struct buffer buffer;
    if (!buffer_take(&buffer, FOR_CALL, codes + 2 * aligned(4 * scales)))
        return ort.CreateStatus(ORT_FAIL, "addax: no memory for activations");
    call->q = buffer.data;
    call->s = (float *)((char *)buffer.data + codes);
    call->sum = (int32_t *)((char *)call->s + aligned(4 * scales));
    OrtStatus *status = multiply(context, call);
    buffer_give(&buffer, FOR_CALL);
    return status;
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
    const struct linear *layer = kernel;
    const struct op *op = &layer->op->op;
    OrtValue *y;
    struct tensor x;
    struct call call = {.layer = layer};
    TRY(read_input(op, context, 0, &x));
    const size_t leading = x.rank ? x.rank - 1 : 0;
    const int64_t columns = x.rank ? x.dims[leading] : 0, rows = elements(x.dims, leading);
    if (columns < layer->least_columns || columns > layer->most_columns || rows > INT32_MAX) {
        char text[256];
        return invalid("addax:%s: expected X of shape [..., K] with K from %d to %d, the columns "
                       "of %s, got %s",
                       op->name, (int)layer->least_columns, (int)layer->most_columns,
                       layer->op->weights, shape_text(x.dims, x.rank, text, sizeof text));
    }
    x.dims[leading] = layer->outputs;
    TRY(ort.GetOutput(context, 0, x.dims, x.rank, &y));
    if (!rows || !layer->outputs) return NULL;
    TRY(ort.GetData(y, (void **)&call.y));
    call.x = x.data;
    call.rows = (int32_t)rows;
    call.columns = (int32_t)columns;
    call.kernel = rows < layer->path->many_from ? &layer->path->few : &layer->path->many;
    return with_buffers(context, &call);
}

/* Y has X's shape but for the last dimension, the number of scales. */
static OrtStatus *infer(const OrtCustomOp *base, OrtShapeInference *context) {
    return infer_last(context, ((const struct linear_op *)base)->scale);
}

#define BASE OP_BASE(create, compute, destroy, infer)

static const struct linear_op codebook = {
    {BASE, "CodebookMatMul", "codebook", 5, {ORT_FLOAT, ORT_UINT8, ORT_INT8, ORT_UINT8, ORT_FLOAT}},
    "codes",
    2,
    3,
    4,
    0};
static const struct linear_op binary = {
    {BASE, "BinaryMatMul", "binary", 4, {ORT_FLOAT, ORT_UINT8, ORT_UINT8, ORT_FLOAT}},
    "planes",
    0,
    2,
    3,
    0};
static const struct linear_op int8 = {
    {BASE, "Int8MatMul", "int8", 3, {ORT_FLOAT, ORT_INT8, ORT_FLOAT}}, "weights", 0, 0, 2, 0};

static const struct linear_op fixed = {
    {BASE, "StaticInt8MatMul", "static", 4, {ORT_FLOAT, ORT_INT8, ORT_INT8, ORT_FLOAT}},
    "weights",
    0,
    0,
    3,
    2};

const struct op *const linear_ops[] = {&codebook.op, &binary.op, &int8.op, &fixed.op, NULL};
