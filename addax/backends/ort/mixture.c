/* RoutedMoE: a linear layer of two experts, each token computed by the one it was sent to.

   Expert 0 multiplies floats, the other one int8 weights of a scale for each row. */
#include "op.h"

#include <stdatomic.h>
#include <string.h>

#define RUN           4         /* tiles in a task */
#define ROWS          16        /* tokens in a task */
#define WORTH_SHARING (1 << 19) /* multiplications; fewer are done before a thread wakes up */

enum { X, EXPERT, FLOATS, FLOAT_BIAS, INTEGERS, SCALE, INTEGER_BIAS, INPUTS };

typedef void addax_float_matmul(const float *x, const float *weights, const float *bias, float *y,
                                int32_t rows, int32_t columns, int32_t outputs, int32_t first,
                                int32_t last);

struct mixture {
    const struct kernel *integer, *floating;
    int32_t outputs, columns, group; /* columns, padded for the int8 kernel */
    void *memory;                    /* holds what follows */
    const float *floats, *bias[2], *scale;
    const uint8_t *integers;
};

/* One call. Tokens are numbered expert by expert: number m is row order[m] of x and y. */
struct call {
    const struct mixture *layer;
    const float *x;
    float *y;
    int32_t *order, *sum;
    float *gathered, *made, *s; /* rows of the first expert; results by number */
    int8_t *q;
    int32_t rows, firsts; /* tokens; those of the first expert */
};

static const struct op mixture;

/* --- the weights --- */

static OrtStatus *check_weights(const struct tensor *in) {
    if (in[FLOATS].rank != 2 || in[SCALE].rank != 1)
        return invalid("addax:%s: expected W of shape [K, N] and scale of shape [N], got ranks %zu "
                       "and %zu",
                       mixture.name, in[FLOATS].rank, in[SCALE].rank);
    const int64_t columns = in[FLOATS].dims[0], outputs = in[FLOATS].dims[1];
    const int64_t packed[] = {(outputs + TILE - 1) / TILE, (columns + 3) / 4, TILE, 4};
    if (columns < 1)
        return invalid("addax:%s: expected weights of at least one column", mixture.name);
    TRY(expect_shape(&mixture, "weights", &in[INTEGERS], 4, packed));
    TRY(expect_shape(&mixture, "b", &in[FLOAT_BIAS], 1, &outputs));
    TRY(expect_shape(&mixture, "c", &in[INTEGER_BIAS], 1, &outputs));
    return expect_shape(&mixture, "scale", &in[SCALE], 1, &outputs);
}

/* w[K, N] in tiles of 64 outputs, [tiles, K, 64]. */
static void pack_floats(float *to, const float *from, int32_t columns, int32_t outputs) {
    for (int32_t tile = 0; tile < ceil_div(outputs, TILE); tile++)
        for (int32_t k = 0; k < columns; k++, to += TILE) {
            const int32_t count = least(TILE, outputs - tile * TILE);
            memcpy(to, from + (size_t)k * (size_t)outputs + tile * TILE, 4 * (size_t)count);
            memset(to + count, 0, 4 * (size_t)(TILE - count));
        }
}

static OrtStatus *keep(struct mixture *made, const struct tensor *in) {
    const size_t tiles = (size_t)ceil_div(made->outputs, TILE);
    const size_t floats = tiles * TILE * (size_t)made->columns * sizeof(float);
    const size_t tile = (size_t)TILE * (size_t)made->group, each = aligned(in[SCALE].bytes);
    char *at = made->memory = weights_allocate(floats + tiles * tile + 3 * each);
    if (!at) return ort.CreateStatus(ORT_FAIL, "addax: no memory for the weights");
    pack_floats((float *)at, in[FLOATS].data, made->columns, made->outputs);
    made->floats = (const float *)at;
    at += floats;
    copy_tiles(at, in[INTEGERS].data, tiles, TILE * (size_t)ceil_div(made->columns, 4) * 4, tile);
    made->integers = (const uint8_t *)at;
    at += tiles * tile;
    const int inputs[] = {FLOAT_BIAS, INTEGER_BIAS, SCALE};
    const float **places[] = {&made->bias[0], &made->bias[1], &made->scale};
    for (int i = 0; i < 3; i++, at += each) {
        memcpy(at, in[inputs[i]].data, in[inputs[i]].bytes);
        *places[i] = (const float *)at;
    }
    return NULL;
}

static OrtStatus *read(const OrtKernelInfo *info, struct mixture *made) {
    struct tensor in[INPUTS];
    const struct path *path;
    for (int i = FLOATS; i < INPUTS; i++) TRY(read_constant(&mixture, info, i, &in[i]));
    TRY(check_weights(in));
    made->columns = (int32_t)in[FLOATS].dims[0];
    made->outputs = (int32_t)in[FLOATS].dims[1];
    made->group = ceil_div(made->columns, INT8_COLUMNS) * INT8_COLUMNS;
    TRY(find_path(&mixture, "mixture", &path));
    made->integer = &path->few;
    made->floating = &path->many;
    return keep(made, in);
}

static void destroy(void *kernel) {
    weights_free(((struct mixture *)kernel)->memory);
    weights_free(kernel);
}

static OrtStatus *create(const OrtCustomOp *base, OrtApi *api, const OrtKernelInfo *info,
                         void **out) {
    (void)base, (void)api;
    struct mixture *made = weights_allocate(sizeof *made);
    if (!made) return ort.CreateStatus(ORT_FAIL, "addax: no memory for a kernel");
    memset(made, 0, sizeof *made);
    OrtStatus *status = read(info, made);
    if (status) destroy(made);
    else *out = made;
    return status;
}

/* --- computing --- */

/* The rows of x by number: gathered as they are, or made integers. */
static void prepare_task(void *user, size_t i) {
    const struct call *call = user;
    const struct mixture *layer = call->layer;
    const int32_t first = (int32_t)i * ROWS, last = least(first + ROWS, call->rows);
    const size_t columns = (size_t)layer->columns;
    for (int32_t m = first; m < last; m++) {
        const float *row = call->x + (size_t)call->order[m] * columns;
        const int32_t number = m - call->firsts;
        if (number < 0) {
            memcpy(call->gathered + (size_t)m * columns, row, columns * sizeof *row);
            continue;
        }
        const size_t at = (size_t)number;
        ((addax_prepare *)layer->integer->prepare)(row, call->q + at * (size_t)layer->group,
                                                   call->s + at, call->sum + at, 1, layer->columns,
                                                   1, layer->group, 0, 1);
    }
}

/* Some tiles of all tokens of both experts. */
static void multiply_task(void *user, size_t i) {
    const struct call *call = user;
    const struct mixture *layer = call->layer;
    const int32_t first = (int32_t)i * RUN;
    const int32_t last = least(first + RUN, ceil_div(layer->outputs, TILE));
    const int32_t others = call->rows - call->firsts;
    if (call->firsts)
        ((addax_float_matmul *)layer->floating->run)(call->gathered, layer->floats, layer->bias[0],
                                                     call->made, call->firsts, layer->columns,
                                                     layer->outputs, first, last);
    if (others)
        ((addax_linear *)layer->integer->run)(
            call->q, call->s, call->sum, layer->integers, NULL, NULL, layer->scale,
            call->made + (size_t)call->firsts * (size_t)layer->outputs, NULL, NULL, others,
            layer->outputs, 1, layer->group, first, last);
}

/* Results to the rows of y that they belong to. */
static void scatter_task(void *user, size_t i) {
    const struct call *call = user;
    const struct mixture *layer = call->layer;
    const size_t outputs = (size_t)layer->outputs;
    const int32_t first = (int32_t)i * ROWS, last = least(first + ROWS, call->rows);
    for (int32_t m = first; m < last; m++) {
        const float *made = call->made + (size_t)m * outputs;
        float *y = call->y + (size_t)call->order[m] * outputs;
        if (m < call->firsts) memcpy(y, made, outputs * sizeof *y); /* has its bias */
        else
            for (size_t n = 0; n < outputs; n++) y[n] = made[n] + layer->bias[1][n];
    }
}

static OrtStatus *run(const OrtKernelContext *context, struct call *call) {
    const struct mixture *layer = call->layer;
    const int64_t work = (int64_t)call->rows * layer->columns * layer->outputs;
    const int64_t blocks = ceil_div(call->rows, ROWS);
    const int is_shared = work > WORTH_SHARING;
    TRY(run_tasks(context, prepare_task, blocks, is_shared, call));
    TRY(run_tasks(context, multiply_task, ceil_div(ceil_div(layer->outputs, TILE), RUN), is_shared,
                  call));
    return run_tasks(context, scatter_task, blocks, is_shared, call);
}

/* Numbers the tokens: those of expert 0 first. */
static void sort(struct call *call, const int32_t *expert) {
    for (int32_t row = 0; row < call->rows; row++) call->firsts += expert[row] == 0;
    int32_t next[2] = {0, call->firsts};
    for (int32_t row = 0; row < call->rows; row++) call->order[next[expert[row] != 0]++] = row;
}

static OrtStatus *with_buffer(const OrtKernelContext *context, struct call *call,
                              const int32_t *expert) {
    const size_t rows = (size_t)call->rows, numbers = aligned(rows * 4);
    const size_t gathered = aligned(rows * (size_t)call->layer->columns * sizeof(float));
    const size_t made = aligned(rows * (size_t)call->layer->outputs * sizeof(float));
    const size_t integers = aligned(rows * (size_t)call->layer->group + ALIGNMENT);
    struct buffer buffer;
    if (!buffer_take(&buffer, FOR_CALL, 3 * numbers + gathered + made + integers))
        return ort.CreateStatus(ORT_FAIL, "addax: no memory for tokens");
    char *at = buffer.data;
    call->order = (int32_t *)at;
    call->sum = (int32_t *)(at + numbers);
    call->s = (float *)(at + 2 * numbers);
    call->gathered = (float *)(at + 3 * numbers);
    call->made = (float *)(at + 3 * numbers + gathered);
    call->q = (int8_t *)(at + 3 * numbers + gathered + made);
    sort(call, expert);
    OrtStatus *status = run(context, call);
    buffer_give(&buffer, FOR_CALL);
    return status;
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
    struct call call = {.layer = kernel};
    struct tensor x, expert;
    OrtValue *y;
    TRY(read_input(&mixture, context, X, &x));
    TRY(read_input(&mixture, context, EXPERT, &expert));
    const size_t leading = x.rank ? x.rank - 1 : 0;
    if (!x.rank || x.dims[leading] != call.layer->columns || expert.rank != leading ||
        memcmp(x.dims, expert.dims, leading * sizeof *x.dims) ||
        elements(x.dims, x.rank) > INT32_MAX) {
        char have[256], other[256];
        return invalid("addax:%s: expected X of shape [..., %d] and an expert for each row of it, "
                       "got %s and %s",
                       mixture.name, (int)call.layer->columns,
                       shape_text(x.dims, x.rank, have, sizeof have),
                       shape_text(expert.dims, expert.rank, other, sizeof other));
    }
    call.rows = (int32_t)elements(x.dims, leading);
    x.dims[leading] = call.layer->outputs;
    TRY(ort.GetOutput(context, 0, x.dims, x.rank, &y));
    if (!elements(x.dims, x.rank)) return NULL;
    TRY(ort.GetData(y, (void **)&call.y));
    call.x = x.data;
    return with_buffer(context, &call, expert.data);
}

static OrtStatus *infer(const OrtCustomOp *base, OrtShapeInference *context) {
    (void)base;
    return infer_last(context, FLOATS);
}

static const struct op mixture = {
    OP_BASE(create, compute, destroy, infer),
    "RoutedMoE",
    "mixture",
    INPUTS,
    {ORT_FLOAT, ORT_INT32, ORT_FLOAT, ORT_FLOAT, ORT_INT8, ORT_FLOAT, ORT_FLOAT}};

const struct op *const mixture_ops[] = {&mixture, NULL};
