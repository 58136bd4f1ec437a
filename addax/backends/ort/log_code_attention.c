/* LogCodeAttention: softmax(scale S + mask) V, in codes of the logarithm of the scores. */
#include "op.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define ROWS          32        /* of scores in a task */
#define LANES         16        /* columns of V are padded to a multiple of it */
#define CODES         64        /* and codes of a row */
#define MAX_BITS      6         /* of a code: the table has 64 entries */
#define WORTH_SHARING (1 << 14) /* scores; fewer are done before a thread wakes up */

typedef void addax_values(const float *v, int8_t *q, float *s, int32_t *sum, int32_t length,
                          int32_t width);
typedef void addax_log_code_attention(const float *scores, const float *mask, const int8_t *q,
                                      const float *s, const int32_t *sum, const uint8_t *table,
                                      float *y, uint8_t *codes, int32_t rows, int32_t length,
                                      int32_t width, int32_t mask_row, int32_t mask_column,
                                      int32_t last, float scale, float steps);

struct log_code {
    const struct kernel *kernel;
    int32_t last;
    float scale, steps;
    _Alignas(ALIGNMENT) uint8_t table[64];
};

/* One call. V of each head is made integers first: q, then sums of columns, then a scale. */
struct scores {
    const struct log_code *kernel;
    const float *s, *v;
    struct tensor mask;
    float *y;
    char *values;
    size_t value_bytes, sums_at, scale_at; /* of a head's share of `values` */
    int64_t heads, mask_strides[MAX_RANK]; /* strides for the dimensions of S; 0: broadcast */
    int64_t dims[MAX_RANK];                /* of S */
    size_t rank;
    int32_t rows, length, width, blocks;
    atomic_int out_of_memory;
};

static void values_task(void *user, size_t head) {
    const struct scores *call = user;
    char *at = call->values + head * call->value_bytes;
    const size_t size = (size_t)call->length * (size_t)call->width;
    ((addax_values *)call->kernel->kernel->prepare)(
        call->v + head * size, (int8_t *)at, (float *)(at + call->scale_at),
        (int32_t *)(at + call->sums_at), call->length, call->width);
}

/* Where the mask of a head begins. */
static const float *mask_of(const struct scores *call, size_t head) {
    int64_t offset = 0;
    for (size_t i = call->rank - 2; i-- > 0; head /= (size_t)call->dims[i])
        offset += (int64_t)(head % (size_t)call->dims[i]) * call->mask_strides[i];
    return (const float *)call->mask.data + offset;
}

/* Some rows of the scores of a head. */
static void scores_task(void *user, size_t i) {
    struct scores *call = user;
    const struct log_code *kernel = call->kernel;
    const size_t head = i / (size_t)call->blocks;
    const int32_t first = (int32_t)(i % (size_t)call->blocks) * ROWS;
    const size_t row = head * (size_t)call->rows + (size_t)first;
    const int64_t *strides = call->mask_strides + call->rank - 2;
    const char *values = call->values + head * call->value_bytes;
    struct buffer codes;
    if (!buffer_take(&codes, FOR_TASK, (size_t)(4 * ceil_div(call->length, CODES) * CODES))) {
        call->out_of_memory = 1;
        return;
    }
    ((addax_log_code_attention *)kernel->kernel->run)(
        call->s + row * (size_t)call->length, mask_of(call, head) + first * strides[0],
        (const int8_t *)values, (const float *)(values + call->scale_at),
        (const int32_t *)(values + call->sums_at), kernel->table,
        call->y + row * (size_t)call->width, codes.data, least(ROWS, call->rows - first),
        call->length, call->width, (int32_t)strides[0], (int32_t)strides[1], kernel->last,
        kernel->scale, kernel->steps);
    buffer_give(&codes, FOR_TASK);
}

/* How the mask is broadcast to S; an error if it cannot be. */
static OrtStatus *broadcast(const struct op *op, struct scores *call) {
    int64_t stride = 1;
    size_t missing = call->rank - call->mask.rank;
    int fits = call->mask.rank <= call->rank;
    for (size_t i = call->rank; fits && i-- > 0;) {
        const int64_t size = i < missing ? 1 : call->mask.dims[i - missing];
        fits = size == 1 || size == call->dims[i];
        call->mask_strides[i] = size == 1 ? 0 : stride;
        stride *= size;
    }
    if (fits) return NULL;
    char mask[256], scores[256];
    return invalid("addax:%s: expected a mask that broadcasts to the scores, %s, got %s", op->name,
                   shape_text(call->dims, call->rank, scores, sizeof scores),
                   shape_text(call->mask.dims, call->mask.rank, mask, sizeof mask));
}

static OrtStatus *read_scores(const struct op *op, const OrtKernelContext *context,
                              struct scores *call) {
    struct tensor s, v;
    TRY(read_input(op, context, 0, &s));
    TRY(read_input(op, context, 1, &call->mask));
    TRY(read_input(op, context, 2, &v));
    const size_t leading = s.rank < 2 ? 0 : s.rank - 2;
    if (s.rank < 2 || v.rank != s.rank || memcmp(s.dims, v.dims, leading * sizeof *s.dims) ||
        s.dims[s.rank - 1] != v.dims[leading] || elements(s.dims, s.rank) > INT32_MAX) {
        char have[256], other[256];
        return invalid("addax:%s: expected scores [..., Q, L] and values [..., L, D], got %s and "
                       "%s",
                       op->name, shape_text(s.dims, s.rank, have, sizeof have),
                       shape_text(v.dims, v.rank, other, sizeof other));
    }
    call->s = s.data, call->v = v.data, call->rank = s.rank;
    memcpy(call->dims, s.dims, sizeof s.dims);
    call->heads = elements(s.dims, leading);
    call->rows = (int32_t)s.dims[leading], call->length = (int32_t)s.dims[leading + 1];
    call->width = (int32_t)v.dims[leading + 1];
    return broadcast(op, call);
}

static OrtStatus *attend(const OrtKernelContext *context, struct scores *call) {
    const size_t columns = (size_t)ceil_div(call->width, LANES) * LANES;
    call->sums_at = aligned((size_t)ceil_div(call->length, 4) * columns * 4);
    call->scale_at = call->sums_at + aligned(columns * 4);
    call->value_bytes = call->scale_at + ALIGNMENT;
    call->blocks = ceil_div(call->rows, ROWS);
    const int64_t work = call->heads * call->rows * call->length;
    struct buffer buffer;
    if (!buffer_take(&buffer, FOR_CALL, (size_t)call->heads * call->value_bytes))
        return ort.CreateStatus(ORT_FAIL, "addax: no memory for attention");
    call->values = buffer.data;
    OrtStatus *status = run_tasks(context, values_task, call->heads, work > WORTH_SHARING, call);
    if (!status)
        status =
            run_tasks(context, scores_task, call->heads * call->blocks, work > WORTH_SHARING, call);
    buffer_give(&buffer, FOR_CALL);
    if (status || !call->out_of_memory) return status;
    return ort.CreateStatus(ORT_FAIL, "addax: no memory for attention");
}

static const struct op log_code;

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
    struct scores call = {.kernel = kernel};
    OrtValue *y;
    int64_t dims[MAX_RANK];
    TRY(read_scores(&log_code, context, &call));
    memcpy(dims, call.dims, sizeof dims);
    dims[call.rank - 1] = call.width;
    TRY(ort.GetOutput(context, 0, dims, call.rank, &y));
    TRY(ort.GetData(y, (void **)&call.y));
    const int64_t size = elements(dims, call.rank);
    if (size && !call.length) memset(call.y, 0, (size_t)size * sizeof *call.y);
    return size && call.length ? attend(context, &call) : NULL;
}

static OrtStatus *read(const OrtKernelInfo *info, struct log_code *made) {
    int64_t bits, codes_per_octave;
    float delta;
    const struct path *path;
    TRY(ort.GetInteger(info, "bits", &bits));
    TRY(ort.GetInteger(info, "codes_per_octave", &codes_per_octave));
    TRY(ort.GetFloat(info, "scale", &made->scale));
    TRY(ort.GetFloat(info, "delta", &delta));
    if (bits < 1 || bits > MAX_BITS || codes_per_octave < 1 || delta != 0)
        return invalid("addax:LogCodeAttention: expected bits from 1 to %d, codes_per_octave of at "
                       "least 1 and delta 0, got %lld, %lld and %g",
                       MAX_BITS, (long long)bits, (long long)codes_per_octave, (double)delta);
    TRY(find_path(&log_code, "log_code", &path));
    made->kernel = &path->few;
    made->last = (1 << bits) - 1;
    made->steps = (float)codes_per_octave;
    for (int c = 0; c < made->last; c++)
        made->table[c] = (uint8_t)nearbyint(255 * exp2(-c / (double)codes_per_octave));
    return NULL;
}

static OrtStatus *create(const OrtCustomOp *base, OrtApi *api, const OrtKernelInfo *info,
                         void **out) {
    (void)base, (void)api;
    struct log_code *made = weights_allocate(sizeof *made);
    if (!made) return ort.CreateStatus(ORT_FAIL, "addax: no memory for a kernel");
    memset(made, 0, sizeof *made);
    OrtStatus *status = read(info, made);
    if (status) weights_free(made);
    else *out = made;
    return status;
}

static OrtStatus *infer(const OrtCustomOp *base, OrtShapeInference *context) {
    (void)base;
    return infer_last(context, 2);
}

static const struct op log_code = {OP_BASE(create, compute, weights_free, infer),
                                   "LogCodeAttention",
                                   "log_code",
                                   3,
                                   {ORT_FLOAT, ORT_FLOAT, ORT_FLOAT}};

const struct op *const log_code_ops[] = {&log_code, NULL};
