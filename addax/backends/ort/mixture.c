/* RoutedMoE: a linear layer of two experts, each token computed by the one it was sent to.

   Expert 0 multiplies floats, the other one int8 weights of a scale for each row. */
#include "op.h"

#include <stdatomic.h>
#include <string.h>

#define ROWS          32        /* tokens in a task: what they need and make stays in the cache */
#define CHUNKS        32        /* tasks that a shared call is divided into, at least */
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

/* One call. Tokens are numbered expert by expert: number m is row order[m] of x and y. Tasks are
   blocks of tokens of one expert times runs of tiles. */
struct call {
    const struct mixture *layer;
    const float *x;
    float *y;
    int32_t *order;
    int32_t rows, firsts; /* tokens; those of the first expert */
    int32_t first_blocks, blocks, tiles, tiles_each;
    atomic_int out_of_memory;
};

/* One task: tokens that are rows order[0] to order[rows - 1], and tiles first to last-1. */
struct piece {
    const int32_t *order;
    int32_t rows, first, last;
    int shifts; /* whether they are the second expert's */
    int lie_together;
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

static struct piece piece_of(const struct call *call, size_t i) {
    const int32_t block = (int32_t)(i % (size_t)call->blocks);
    const int32_t run = (int32_t)(i / (size_t)call->blocks);
    const int shifts = block >= call->first_blocks;
    const int32_t number =
        shifts ? call->firsts + (block - call->first_blocks) * ROWS : block * ROWS;
    const int32_t rows = least(ROWS, (shifts ? call->rows : call->firsts) - number);
    const int32_t *order = call->order + number;
    return (struct piece){order,
                          rows,
                          run * call->tiles_each,
                          least((run + 1) * call->tiles_each, call->tiles),
                          shifts,
                          order[rows - 1] - order[0] == rows - 1};
}

/* The tokens' results, made[rows][outputs], in the columns of the piece's tiles. */
static void multiply(const struct call *call, const struct piece *piece, float *gathered,
                     float *made) {
    const struct mixture *layer = call->layer;
    const size_t columns = (size_t)layer->columns;
    const float *x = call->x + (size_t)piece->order[0] * columns;
    if (!piece->lie_together) {
        for (int32_t m = 0; m < piece->rows; m++)
            memcpy(gathered + (size_t)m * columns, call->x + (size_t)piece->order[m] * columns,
                   columns * sizeof *x);
        x = gathered;
    }
    ((addax_float_matmul *)layer->floating->run)(x, layer->floats, layer->bias[0], made,
                                                 piece->rows, layer->columns, layer->outputs,
                                                 piece->first, piece->last);
}

/* The same for tokens whose activations become integers q. */
static void multiply_integers(const struct call *call, const struct piece *piece, int8_t *q,
                              float *made) {
    const struct mixture *layer = call->layer;
    float s[ROWS];
    int32_t sum[ROWS];
    for (int32_t m = 0; m < piece->rows; m++)
        ((addax_prepare *)layer->integer->prepare)(
            call->x + (size_t)piece->order[m] * (size_t)layer->columns,
            q + (size_t)m * (size_t)layer->group, s + m, sum + m, 1, layer->columns, 1,
            layer->group, 0, 1);
    ((addax_linear *)layer->integer->run)(q, s, sum, layer->integers, NULL, NULL, layer->scale,
                                          made, NULL, NULL, piece->rows, layer->outputs, 1,
                                          layer->group, piece->first, piece->last);
}

/* Results to the rows of y that they belong to. */
static void scatter(const struct call *call, const struct piece *piece, const float *made) {
    const size_t outputs = (size_t)call->layer->outputs;
    const size_t first = (size_t)piece->first * TILE;
    const size_t count = (size_t)least(piece->last * TILE, call->layer->outputs) - first;
    const float *bias = call->layer->bias[1] + first;
    for (int32_t m = 0; m < piece->rows; m++) {
        const float *from = made + (size_t)m * outputs + first;
        float *to = call->y + (size_t)piece->order[m] * outputs + first;
        if (piece->shifts)
            for (size_t n = 0; n < count; n++) to[n] = from[n] + bias[n];
        else if (to != from) memcpy(to, from, count * sizeof *to); /* has its bias */
    }
}

static void task(void *user, size_t i) {
    struct call *call = user;
    const struct mixture *layer = call->layer;
    const struct piece piece = piece_of(call, i);
    const size_t outputs = (size_t)layer->outputs;
    const size_t inputs = aligned((size_t)ROWS * (size_t)layer->group * sizeof(float));
    struct buffer buffer;
    if (!buffer_take(&buffer, FOR_TASK, inputs + ROWS * outputs * sizeof(float))) {
        call->out_of_memory = 1;
        return;
    }
    float *made = piece.lie_together ? call->y + (size_t)piece.order[0] * outputs
                                     : (float *)((char *)buffer.data + inputs);
    if (piece.shifts) multiply_integers(call, &piece, buffer.data, made);
    else multiply(call, &piece, buffer.data, made);
    scatter(call, &piece, made);
    buffer_give(&buffer, FOR_TASK);
}

/* Numbers the tokens: those of expert 0 first. */
static void sort(struct call *call, const int32_t *expert) {
    for (int32_t row = 0; row < call->rows; row++) call->firsts += expert[row] == 0;
    int32_t next[2] = {0, call->firsts};
    for (int32_t row = 0; row < call->rows; row++) call->order[next[expert[row] != 0]++] = row;
}

static OrtStatus *run(const OrtKernelContext *context, struct call *call, const int32_t *expert) {
    const struct mixture *layer = call->layer;
    const int is_shared = (int64_t)call->rows * layer->columns * layer->outputs > WORTH_SHARING;
    struct buffer buffer;
    if (!buffer_take(&buffer, FOR_CALL, (size_t)call->rows * sizeof(int32_t)))
        return ort.CreateStatus(ORT_FAIL, "addax: no memory for tokens");
    call->order = buffer.data;
    sort(call, expert);
    call->first_blocks = ceil_div(call->firsts, ROWS);
    call->blocks = call->first_blocks + ceil_div(call->rows - call->firsts, ROWS);
    call->tiles = ceil_div(layer->outputs, TILE);
    call->tiles_each = ceil_div(call->tiles, is_shared ? ceil_div(CHUNKS, call->blocks) : 1);
    const int64_t tasks = (int64_t)call->blocks * ceil_div(call->tiles, call->tiles_each);
    OrtStatus *status = run_tasks(context, task, tasks, is_shared, call);
    buffer_give(&buffer, FOR_CALL);
    if (status) return status;
    return call->out_of_memory ? ort.CreateStatus(ORT_FAIL, "addax: no memory for tokens") : NULL;
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
    return run(context, &call, expert.data);
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
