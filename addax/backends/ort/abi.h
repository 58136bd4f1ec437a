/* What this library uses of ONNX Runtime's C interface, declared anew: the runtime's wheels carry
   no headers. The interface is a table of function pointers that only ever grows, so the number of
   a slot is as stable as a name; `bind` in registration.c reads the slots below. */
#ifndef ADDAX_ABI_H
#define ADDAX_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_VERSION 18 /* ONNX Runtime 1.18: the oldest that has all of this */

typedef struct OrtStatus OrtStatus; /* NULL: no error */
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtValue OrtValue;
typedef struct OrtShape OrtShape;
typedef struct OrtShapeInference OrtShapeInference;
typedef struct OrtAttribute OrtAttribute;
typedef struct OrtCustomOp OrtCustomOp;
typedef void *const OrtApi;

typedef struct {
    OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT32 = 6 };
enum { ORT_ATTRIBUTE_INT = 1 };

/* X(slot, result, name, parameters) */
#define ORT_FUNCTIONS(X)                                                                           \
    X(0, OrtStatus *, CreateStatus, (int code, const char *text))                                  \
    X(26, OrtStatus *, CreateCustomOpDomain, (const char *name, OrtCustomOpDomain **made))         \
    X(27, OrtStatus *, AddToDomain, (OrtCustomOpDomain *domain, const OrtCustomOp *op))            \
    X(28, OrtStatus *, AddDomain, (OrtSessionOptions *options, OrtCustomOpDomain *domain))         \
    X(51, OrtStatus *, GetData, (const OrtValue *value, void **data))                              \
    X(57, OrtStatus *, CreateShape, (OrtShape **made))                                             \
    X(58, OrtStatus *, SetElementType, (OrtShape *shape, int type))                                \
    X(59, OrtStatus *, SetDimensions, (OrtShape *shape, const int64_t *dims, size_t rank))         \
    X(61, OrtStatus *, GetRank, (const OrtShape *shape, size_t *rank))                             \
    X(62, OrtStatus *, GetDimensions, (const OrtShape *shape, int64_t *dims, size_t rank))         \
    X(63, OrtStatus *, GetNames, (const OrtShape *shape, const char **names, size_t rank))         \
    X(65, OrtStatus *, GetShape, (const OrtValue *value, OrtShape **shape))                        \
    X(85, OrtStatus *, GetFloat, (const OrtKernelInfo *info, const char *name, float *value))      \
    X(86, OrtStatus *, GetInteger, (const OrtKernelInfo *info, const char *name, int64_t *value))  \
    X(90, OrtStatus *, GetInput, (const OrtKernelContext *context, size_t i, const OrtValue **in)) \
    X(91, OrtStatus *, GetOutput,                                                                  \
      (OrtKernelContext *context, size_t i, const int64_t *dims, size_t rank, OrtValue **out))     \
    X(99, void, ReleaseShape, (OrtShape *shape))                                                   \
    X(249, OrtStatus *, GetConstant,                                                               \
      (const OrtKernelInfo *info, size_t i, int *is_constant, const OrtValue **value))             \
    X(268, OrtStatus *, InferInput, (const OrtShapeInference *context, size_t i, OrtShape **in))   \
    X(269, OrtStatus *, InferAttribute,                                                            \
      (const OrtShapeInference *context, const char *name, const OrtAttribute **attribute))        \
    X(270, OrtStatus *, InferOutput,                                                               \
      (const OrtShapeInference *context, size_t i, const OrtShape *out))                           \
    X(271, OrtStatus *, SetNames, (OrtShape *shape, const char **names, size_t rank))              \
    X(272, OrtStatus *, ReadAttribute,                                                             \
      (const OrtAttribute *attribute, int type, void *data, size_t bytes, size_t *written))        \
    X(274, OrtStatus *, ParallelFor,                                                               \
      (const OrtKernelContext *context, void (*task)(void *, size_t), size_t count,                \
       size_t batches, void *user))

struct ort_functions {
#define ORT_POINTER(slot, result, name, parameters) result(*name) parameters;
    ORT_FUNCTIONS(ORT_POINTER)
#undef ORT_POINTER
};

/* An operator as the runtime sees it. It reads the fields of the version that the op declares. */
struct OrtCustomOp {
    uint32_t version;
    void *(*CreateKernel)(const OrtCustomOp *, OrtApi *, const OrtKernelInfo *);
    const char *(*GetName)(const OrtCustomOp *);
    const char *(*GetExecutionProviderType)(const OrtCustomOp *);
    int (*GetInputType)(const OrtCustomOp *, size_t);
    size_t (*GetInputTypeCount)(const OrtCustomOp *);
    int (*GetOutputType)(const OrtCustomOp *, size_t);
    size_t (*GetOutputTypeCount)(const OrtCustomOp *);
    void (*KernelCompute)(void *, OrtKernelContext *);
    void (*KernelDestroy)(void *);
    int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
    int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
    int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
    int (*GetVariadicInputMinArity)(const OrtCustomOp *);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
    OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, OrtApi *, const OrtKernelInfo *, void **);
    OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
    OrtStatus *(*InferOutputShape)(const OrtCustomOp *, OrtShapeInference *);
    int (*GetStartVersion)(const OrtCustomOp *);
    int (*GetEndVersion)(const OrtCustomOp *);
    size_t (*GetMayInplace)(int **, int **);
    void (*ReleaseMayInplace)(int *, int *);
    size_t (*GetAliasMap)(int **, int **);
    void (*ReleaseAliasMap)(int *, int *);
};

#endif
