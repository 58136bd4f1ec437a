/* What every operator has in common; see op.h. */
#include "op.h"

#include <stdio.h>
#include <string.h>

const char *op_name(const OrtCustomOp *op) { return ((const struct op *)op)->name; }
const char *op_provider(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
int op_input_type(const OrtCustomOp *op, size_t i) { return ((const struct op *)op)->types[i]; }
size_t op_input_count(const OrtCustomOp *op) { return (size_t)((const struct op *)op)->inputs; }
int op_output_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_FLOAT; }
size_t op_output_count(const OrtCustomOp *op) { return (void)op, 1; }
int op_required(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, 0; }
int op_one(const OrtCustomOp *op) { return (void)op, 1; }

OrtStatus *find_path(const struct op *op, const char *form, const struct path **path) {
    *path = path_of(form);
    if (*path) return NULL;
    return invalid("addax:%s: this library has no kernel for %s on this processor; load the "
                   "model without it",
                   op->name, form);
}

/* --- inputs --- */

int64_t elements(const int64_t *dims, size_t rank) {
    int64_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= dims[i];
    return count;
}

static OrtStatus *read_value(const struct op *op, const OrtValue *value, int input,
                             struct tensor *read) {
    OrtShape *shape;
    TRY(ort.GetShape(value, &shape));
    OrtStatus *status = ort.GetRank(shape, &read->rank);
    if (!status && read->rank > MAX_RANK)
        status = invalid("addax:%s: expected at most %d dimensions, got %zu", op->name, MAX_RANK,
                         read->rank);
    if (!status) status = ort.GetDimensions(shape, read->dims, read->rank);
    ort.ReleaseShape(shape);
    if (status) return status;
    const int type = op->types[input];
    read->bytes = type == ORT_FLOAT || type == ORT_INT32 ? 4 : 1;
    read->bytes *= (size_t)elements(read->dims, read->rank);
    return ort.GetData(value, (void **)&read->data);
}

OrtStatus *read_constant(const struct op *op, const OrtKernelInfo *info, int input,
                         struct tensor *read) {
    const OrtValue *value = NULL;
    int is_constant = 0;
    TRY(ort.GetConstant(info, (size_t)input, &is_constant, &value));
    if (!is_constant || !value)
        return invalid("addax:%s: expected weights that are initializers, but input %d is computed "
                       "at run time; make it an initializer, or load the model without this "
                       "library",
                       op->name, input);
    TRY(read_value(op, value, input, read));
    if (read->bytes > INT32_MAX)
        return invalid("addax:%s: expected at most 2 GiB of weights, input %d has %zu bytes",
                       op->name, input, read->bytes);
    return NULL;
}

OrtStatus *read_input(const struct op *op, const OrtKernelContext *context, int input,
                      struct tensor *read) {
    const OrtValue *value;
    TRY(ort.GetInput(context, (size_t)input, &value));
    return read_value(op, value, input, read);
}

const char *shape_text(const int64_t *dims, size_t rank, char *text, size_t size) {
    size_t at = (size_t)snprintf(text, size, "[");
    for (size_t i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ", %lld" : "%lld", (long long)dims[i]);
    if (at < size) snprintf(text + at, size - at, "]");
    return text;
}

OrtStatus *expect_shape(const struct op *op, const char *name, const struct tensor *read,
                        size_t rank, const int64_t *expected) {
    if (read->rank == rank && !memcmp(read->dims, expected, rank * sizeof *expected)) return NULL;
    char want[256], have[256];
    return invalid("addax:%s: expected %s of shape %s, got %s", op->name, name,
                   shape_text(expected, rank, want, sizeof want),
                   shape_text(read->dims, read->rank, have, sizeof have));
}

void copy_tiles(char *to, const char *from, size_t tiles, size_t have, size_t want) {
    for (size_t t = 0; t < tiles; t++) {
        memcpy(to + t * want, from + t * have, have);
        memset(to + t * want + have, 0, want - have);
    }
}

/* --- outputs and work --- */

static OrtStatus *infer(OrtShapeInference *context, int64_t columns, const char *name) {
    OrtShape *x, *made;
    int64_t dims[MAX_RANK];
    const char *names[MAX_RANK];
    size_t rank;
    TRY(ort.InferInput(context, 0, &x));
    TRY(ort.GetRank(x, &rank));
    if (!rank || rank > MAX_RANK) return NULL; /* unknown as yet */
    TRY(ort.GetDimensions(x, dims, rank));
    TRY(ort.GetNames(x, names, rank));
    dims[rank - 1] = columns;
    names[rank - 1] = name;
    TRY(ort.CreateShape(&made));
    OrtStatus *status = ort.SetElementType(made, ORT_FLOAT);
    if (!status) status = ort.SetDimensions(made, dims, rank);
    if (!status) status = ort.SetNames(made, names, rank);
    if (!status) status = ort.InferOutput(context, 0, made);
    ort.ReleaseShape(made);
    return status;
}

OrtStatus *infer_last(OrtShapeInference *context, int from) {
    OrtShape *shape;
    int64_t dims[MAX_RANK];
    const char *names[MAX_RANK];
    size_t rank;
    TRY(ort.InferInput(context, (size_t)from, &shape));
    TRY(ort.GetRank(shape, &rank));
    if (!rank || rank > MAX_RANK) return NULL;
    TRY(ort.GetDimensions(shape, dims, rank));
    TRY(ort.GetNames(shape, names, rank));
    return infer(context, dims[rank - 1], names[rank - 1]);
}

OrtStatus *infer_columns(OrtShapeInference *context, int64_t columns) {
    return infer(context, columns, "");
}

OrtStatus *run_tasks(const OrtKernelContext *context, void (*task)(void *, size_t), int64_t tasks,
                     int is_shared, void *user) {
    if (is_shared && tasks > 1) return ort.ParallelFor(context, task, (size_t)tasks, 0, user);
    for (int64_t i = 0; i < tasks; i++) task(user, (size_t)i);
    return NULL;
}
