/* The door to ONNX Runtime: `RegisterCustomOps` hands over every op of the domain `addax`. */
#include "op.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

struct ort_functions ort;

static void bind(OrtApi *table) {
#define ORT_BIND(slot, result, name, parameters) ort.name = (result(*) parameters)table[slot];
    ORT_FUNCTIONS(ORT_BIND)
#undef ORT_BIND
}

OrtStatus *invalid(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return ort.CreateStatus(ORT_INVALID_ARGUMENT, text);
}

static OrtStatus *add_ops(OrtCustomOpDomain *domain, const struct op *const ops[]) {
    for (; *ops; ops++)
        if (has_path((*ops)->forms)) TRY(ort.AddToDomain(domain, &(*ops)->base));
    return NULL; /* ops that have no kernel here run through their bodies */
}

static OrtStatus *make_domain(OrtCustomOpDomain **made) {
    OrtCustomOpDomain *domain;
    TRY(ort.CreateCustomOpDomain("addax", &domain));
    TRY(add_ops(domain, linear_ops));
    TRY(add_ops(domain, log_code_ops));
    TRY(add_ops(domain, binary_attention_ops));
    TRY(add_ops(domain, mixture_ops));
    *made = domain;
    return NULL;
}

/* Called by the runtime for each session that registers this library. */
EXPORTED OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    static OrtCustomOpDomain *domain; /* lives as long as the process: sessions refer to it */
    OrtApi *table = base->GetApi(ORT_VERSION);
    if (!table) return NULL; /* an older runtime: it runs the bodies in the model */
    while (atomic_flag_test_and_set(&busy)) {
    }
    OrtStatus *status = NULL;
    if (!domain) {
        bind(table);
        status = check_forced_isa();
        if (!status) status = make_domain(&domain);
    }
    atomic_flag_clear(&busy);
    return status ? status : ort.AddDomain(options, domain);
}

/* The instruction set that a form ("codebook4", "mixture", ...) is computed with on this
   processor; NULL if there is no kernel for it. */
EXPORTED const char *addax_code_path(const char *form) {
    const struct path *path = path_of(form);
    return path ? path->isa : NULL;
}

/* 1 if this processor can run code of an instruction set ("avx512", ...), else 0. */
EXPORTED int addax_has_isa(const char *isa) { return has_isa(isa); }
