/* What every operator of the library has in common: how it is described, and how it reads its
   inputs. */
#ifndef ADDAX_OP_H
#define ADDAX_OP_H

#include "library.h"

#define MAX_RANK 16
#define MAX_INPUTS 7
#define INT8_COLUMNS 32 /* kernels take int8 weights in multiples of it */

/* An operator; the runtime sees its first field. It is registered where this processor has a
   kernel for it. All outputs and all inputs that are not weights of few bits are float32. */
struct op {
    OrtCustomOp base;
    const char *name;
    const char *forms; /* what the names of its kernels' forms begin with */
    int inputs;
    int types[MAX_INPUTS];
};

/* The first field of an op. */
#define OP_BASE(create_, compute_, destroy_, infer_)                                               \
    {.version = ORT_VERSION,                                                                       \
     .GetName = op_name,                                                                           \
     .GetExecutionProviderType = op_provider,                                                      \
     .GetInputType = op_input_type,                                                                \
     .GetInputTypeCount = op_input_count,                                                          \
     .GetOutputType = op_output_type,                                                              \
     .GetOutputTypeCount = op_output_count,                                                        \
     .KernelDestroy = destroy_,                                                                    \
     .GetInputCharacteristic = op_required,                                                        \
     .GetOutputCharacteristic = op_required,                                                       \
     .GetInputMemoryType = op_required,                                                            \
     .GetVariadicInputMinArity = op_one,                                                           \
     .GetVariadicInputHomogeneity = op_one,                                                        \
     .GetVariadicOutputMinArity = op_one,                                                          \
     .GetVariadicOutputHomogeneity = op_one,                                                       \
     .CreateKernelV2 = create_,                                                                    \
     .KernelComputeV2 = compute_,                                                                  \
     .InferOutputShape = infer_,                                                                   \
     .GetStartVersion = op_one,                                                                    \
     .GetEndVersion = op_one}

const char *op_name(const OrtCustomOp *op);
const char *op_provider(const OrtCustomOp *op);
int op_input_type(const OrtCustomOp *op, size_t i);
size_t op_input_count(const OrtCustomOp *op);
int op_output_type(const OrtCustomOp *op, size_t i);
size_t op_output_count(const OrtCustomOp *op);
int op_required(const OrtCustomOp *op, size_t i); /* and: it lies in main memory */
int op_one(const OrtCustomOp *op);

/* Where a node gets its kernel from: the preferred path of a form; an error if there is none. */
OrtStatus *find_path(const struct op *op, const char *form, const struct path **path);

/* --- inputs --- */

struct tensor {
    const void *data;
    int64_t dims[MAX_RANK];
    size_t rank, bytes;
};

/* A tensor that is known when a node is made, of at most 2 GiB. */
OrtStatus *read_constant(const struct op *op, const OrtKernelInfo *info, int input,
                         struct tensor *read);
/* A tensor that a call is given. */
OrtStatus *read_input(const struct op *op, const OrtKernelContext *context, int input,
                      struct tensor *read);
int64_t elements(const int64_t *dims, size_t rank);

OrtStatus *expect_shape(const struct op *op, const char *name, const struct tensor *read,
                        size_t rank, const int64_t *expected);
/* "[2, 3]", for messages. */
const char *shape_text(const int64_t *dims, size_t rank, char *text, size_t size);

/* Packed weights, each tile padded with zeros from `have` to `want` bytes. */
void copy_tiles(char *to, const char *from, size_t tiles, size_t have, size_t want);

/* --- outputs and work --- */

/* Tells the runtime that the output has the shape of input 0 but for its last dimension, which is
   the last one of input `from`. */
OrtStatus *infer_last(OrtShapeInference *context, int from);
/* The same with a known last dimension. */
OrtStatus *infer_columns(OrtShapeInference *context, int64_t columns);

/* task(user, i) for all i below `tasks`, by several threads if it `is_shared`. */
OrtStatus *run_tasks(const OrtKernelContext *context, void (*task)(void *, size_t), int64_t tasks,
                     int is_shared, void *user);

#endif
