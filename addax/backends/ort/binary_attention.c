/* BinaryLinearAttention: attention without softmax, on signs of queries and keys. */
#include "op.h"

#include <stdatomic.h>
#include <string.h>

#define LANES         16        /* bits and width are multiples of it */
#define WORTH_SHARING (1 << 16) /* sums; fewer are done before a thread wakes up */

typedef void addax_binary_linear_attention(const float *x, const float *filters, float *y,
                                           float *scratch, int32_t tokens, int32_t heads,
                                           int32_t head, int32_t bits, int32_t width, int32_t taps,
                                           float value_weight, float sum_weight, float epsilon);

struct attention {
    const struct kernel *kernel;
    int64_t heads, bits, width;
    float value_weight, sum_weight, epsilon;
};

struct call {
    const struct attention *kernel;
    const float *x, *filters;
    float *y;
    int32_t tokens, taps;
    atomic_int out_of_memory;
};

static const struct op attention;

/* One head of one entry of the batch. */
static void task(void *user, size_t i) {
    struct call *call = user;
    const struct attention *kernel = call->kernel;
    const size_t heads = (size_t)kernel->heads, bits = (size_t)kernel->bits;
    const size_t width = (size_t)kernel->width, tokens = (size_t)call->tokens;
    const size_t batch = i / heads;
    struct buffer scratch;
    if (!buffer_take(&scratch, FOR_TASK, (5 * bits * width + width + bits) * sizeof(float))) {
        call->out_of_memory = 1;
        return;
    }
    ((addax_binary_linear_attention *)kernel->kernel->run)(
        call->x + batch * tokens * heads * (2 * bits + width), call->filters,
        call->y + batch * tokens * heads * width, scratch.data, call->tokens,
        (int32_t)kernel->heads, (int32_t)(i % heads), (int32_t)kernel->bits, (int32_t)kernel->width,
        call->taps, kernel->value_weight, kernel->sum_weight, kernel->epsilon);
    buffer_give(&scratch, FOR_TASK);
}

static OrtStatus *check(const struct attention *kernel, const struct tensor *x,
                        const struct tensor *filters) {
    const int64_t heads = kernel->heads, columns = heads * (2 * kernel->bits + kernel->width);
    if (x->rank != 3 || x->dims[2] != columns || elements(x->dims, 3) > INT32_MAX) {
        char text[256];
        return invalid("addax:%s: expected X of shape [B, N, %lld], got %s", attention.name,
                       (long long)columns, shape_text(x->dims, x->rank, text, sizeof text));
    }
    const int64_t taps = filters->rank == 4 ? filters->dims[2] : 1;
    TRY(expect_shape(&attention, "filters", filters, 4, (int64_t[]){heads, 1, taps, 1}));
    if (taps % 2) return NULL;
    return invalid("addax:%s: expected filters of an odd number of taps, got %lld", attention.name,
                   (long long)taps);
}

static OrtStatus *compute(void *kernel, OrtKernelContext *context) {
    struct call call = {.kernel = kernel};
    struct tensor x, filters;
    OrtValue *y;
    TRY(read_input(&attention, context, 0, &x));
    TRY(read_input(&attention, context, 1, &filters));
    TRY(check(kernel, &x, &filters));
    const int64_t tasks = x.dims[0] * call.kernel->heads;
    const int64_t work = elements(x.dims, 3) * call.kernel->bits;
    call.tokens = (int32_t)x.dims[1], call.taps = (int32_t)filters.dims[2];
    call.x = x.data, call.filters = filters.data;
    x.dims[2] = call.kernel->heads * call.kernel->width;
    TRY(ort.GetOutput(context, 0, x.dims, 3, &y));
    if (!elements(x.dims, 3)) return NULL;
    TRY(ort.GetData(y, (void **)&call.y));
    TRY(run_tasks(context, task, tasks, work > WORTH_SHARING, &call));
    return call.out_of_memory ? ort.CreateStatus(ORT_FAIL, "addax: no memory for attention") : NULL;
}

static OrtStatus *read(const OrtKernelInfo *info, struct attention *made) {
    const struct path *path;
    TRY(ort.GetInteger(info, "heads", &made->heads));
    TRY(ort.GetInteger(info, "bits", &made->bits));
    TRY(ort.GetInteger(info, "width", &made->width));
    TRY(ort.GetFloat(info, "value_weight", &made->value_weight));
    TRY(ort.GetFloat(info, "sum_weight", &made->sum_weight));
    TRY(ort.GetFloat(info, "epsilon", &made->epsilon));
    if (made->heads < 1 || made->bits < 1 || made->width < 1 || made->bits % LANES ||
        made->width % LANES)
        return invalid("addax:%s: expected heads, and bits and width that are multiples of %d, got "
                       "%lld, %lld and %lld",
                       attention.name, LANES, (long long)made->heads, (long long)made->bits,
                       (long long)made->width);
    TRY(find_path(&attention, "linear_attention", &path));
    made->kernel = &path->few;
    return NULL;
}

static OrtStatus *create(const OrtCustomOp *base, OrtApi *api, const OrtKernelInfo *info,
                         void **out) {
    (void)base, (void)api;
    struct attention *made = weights_allocate(sizeof *made);
    if (!made) return ort.CreateStatus(ORT_FAIL, "addax: no memory for a kernel");
    OrtStatus *status = read(info, made);
    if (status) weights_free(made);
    else *out = made;
    return status;
}

static OrtStatus *infer_integer(OrtShapeInference *context, const char *name, int64_t *value) {
    const OrtAttribute *attribute;
    size_t written;
    TRY(ort.InferAttribute(context, name, &attribute));
    return ort.ReadAttribute(attribute, ORT_ATTRIBUTE_INT, value, sizeof *value, &written);
}

static OrtStatus *infer(const OrtCustomOp *base, OrtShapeInference *context) {
    (void)base;
    int64_t heads, width;
    TRY(infer_integer(context, "heads", &heads));
    TRY(infer_integer(context, "width", &width));
    return infer_columns(context, heads * width);
}

static const struct op attention = {OP_BASE(create, compute, weights_free, infer),
                                    "BinaryLinearAttention",
                                    "linear_attention",
                                    2,
                                    {ORT_FLOAT, ORT_FLOAT}};

const struct op *const binary_attention_ops[] = {&attention, NULL};
