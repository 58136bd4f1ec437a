/* A runtime of one node: it registers a library of custom ops, makes one kernel and runs it.

       mock_runtime LIBRARY CASE OUTPUT      (with STATIC defined, LIBRARY is not read)

   CASE says the node, as `emulated.py` writes it; OUTPUT gets the bytes of output 0. On standard
   output, a line each: `registered OP`, `path FORM ISA`, `shape DIMS`. The slots that it fills are
   numbered here anew, apart from the library's `abi.h`. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 400
#define MOST  16

struct shape {
    int type;
    size_t rank;
    int64_t dims[MOST];
};
struct value {
    int is_constant;
    struct shape shape;
    void *data;
};
struct attribute {
    char name[24];
    int64_t integer;
    float real;
    int32_t unused;
};
struct node {
    char name[32];
    int32_t attribute_count, input_count;
    struct attribute attributes[MOST];
    struct value inputs[MOST], output;
};
struct status {
    char text[600];
};
struct op; /* the fields of OrtCustomOp up to the ones called here */
struct op {
    uint32_t version;
    void *old_create;
    const char *(*get_name)(const struct op *);
    void *unused[6];
    void (*destroy)(void *);
    void *unused_too[7];
    struct status *(*create)(const struct op *, void *const *, const struct node *, void **);
    struct status *(*compute)(void *, struct node *);
};
struct base {
    void *const *(*get_api)(uint32_t);
    const char *(*get_version)(void);
};

static const struct op *registered[MOST];
static size_t registered_count, domains;
static void *table[SLOTS];

static void die(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(9);
}

static struct status *create_status(int code, const char *text) {
    struct status *made = calloc(1, sizeof *made);
    snprintf(made->text, sizeof made->text, "%d %s", code, text);
    return made;
}
static struct status *create_domain(const char *name, void **made) {
    if (strcmp(name, "addax")) die("another domain");
    *made = registered;
    return NULL;
}
static struct status *add_to_domain(void *domain, const struct op *op) {
    if (domain != registered || registered_count == MOST) die("a domain that is not ours");
    registered[registered_count++] = op;
    return NULL;
}
static struct status *add_domain(void *options, void *domain) {
    if (strcmp(options, "options") || domain != registered) die("wrong options or domain");
    domains++;
    return NULL;
}
static struct status *get_data(struct value *value, void **data) {
    *data = value->data;
    return NULL;
}
static struct status *get_rank(const struct shape *shape, size_t *rank) {
    *rank = shape->rank;
    return NULL;
}
static struct status *get_dimensions(const struct shape *shape, int64_t *dims, size_t rank) {
    memcpy(dims, shape->dims, rank * sizeof *dims);
    return NULL;
}
static struct status *get_shape(const struct value *value, struct shape **shape) {
    *shape = malloc(sizeof **shape);
    **shape = value->shape;
    return NULL;
}
static const struct attribute *find(const struct node *node, const char *name) {
    for (int32_t i = 0; i < node->attribute_count; i++)
        if (!strcmp(node->attributes[i].name, name)) return &node->attributes[i];
    return NULL;
}
static struct status *get_float(const struct node *node, const char *name, float *value) {
    if (!find(node, name)) return create_status(2, name);
    *value = find(node, name)->real;
    return NULL;
}
static struct status *get_integer(const struct node *node, const char *name, int64_t *value) {
    if (!find(node, name)) return create_status(2, name);
    *value = find(node, name)->integer;
    return NULL;
}
static struct status *get_input(const struct node *node, size_t i, const struct value **value) {
    *value = i < (size_t)node->input_count ? &node->inputs[i] : NULL;
    return NULL;
}
static struct status *get_output(struct node *node, size_t i, const int64_t *dims, size_t rank,
                                 struct value **value) {
    if (i) die("another output");
    struct value *output = &node->output;
    size_t bytes = sizeof(float);
    output->shape.rank = rank;
    for (size_t d = 0; d < rank; d++) bytes *= (size_t)(output->shape.dims[d] = dims[d]);
    output->data = malloc(bytes + 1);
    *value = output;
    return NULL;
}
static struct status *get_constant(struct node *node, size_t i, int *is_constant,
                                   struct value **value) {
    *is_constant = node->inputs[i].is_constant;
    *value = *is_constant ? &node->inputs[i] : NULL;
    return NULL;
}
static struct status *parallel_for(const struct node *node, void (*task)(void *, size_t),
                                   size_t count, size_t batches, void *user) {
    (void)node, (void)batches;
    for (size_t i = count; i-- > 0;) task(user, i); /* any order is right */
    return NULL;
}
static void unknown(void) { die("the library calls a slot that this runtime lacks"); }

static void *const *get_api(uint32_t version) { return version > 18 ? NULL : table; }

static void fill_table(void) {
    for (size_t i = 0; i < SLOTS; i++) table[i] = (void *)unknown;
    table[0] = (void *)create_status, table[26] = (void *)create_domain;
    table[27] = (void *)add_to_domain, table[28] = (void *)add_domain;
    table[51] = (void *)get_data, table[61] = (void *)get_rank;
    table[62] = (void *)get_dimensions, table[65] = (void *)get_shape;
    table[85] = (void *)get_float, table[86] = (void *)get_integer;
    table[90] = (void *)get_input, table[91] = (void *)get_output;
    table[93] = (void *)free, table[99] = (void *)free;
    table[249] = (void *)get_constant, table[274] = (void *)parallel_for;
}

/* --- the case --- */

static void take(FILE *file, void *to, size_t bytes) {
    if (bytes && fread(to, bytes, 1, file) != 1) die("the case ends too early");
}

static void read_node(const char *path, struct node *node) {
    FILE *file = fopen(path, "rb");
    if (!file) die("no case");
    take(file, node->name, sizeof node->name);
    take(file, &node->attribute_count, sizeof(int32_t));
    for (int32_t i = 0; i < node->attribute_count; i++)
        take(file, &node->attributes[i], sizeof *node->attributes);
    take(file, &node->input_count, sizeof(int32_t));
    for (int32_t i = 0; i < node->input_count; i++) {
        int32_t head[3];
        int64_t bytes;
        struct value *value = &node->inputs[i];
        take(file, head, sizeof head);
        value->is_constant = head[0], value->shape.type = head[1];
        value->shape.rank = (size_t)head[2];
        take(file, value->shape.dims, sizeof(int64_t) * value->shape.rank);
        take(file, &bytes, sizeof bytes);
        value->data = (char *)malloc((size_t)bytes + 2) + 1; /* nothing promises alignment */
        if (value->shape.type == 1) value->data = (char *)value->data - 1;
        take(file, value->data, (size_t)bytes);
    }
    fclose(file);
}

static void check(struct status *status) {
    if (status) die(status->text);
}

#ifdef STATIC
struct status *RegisterCustomOps(void *options, const struct base *base);
const char *addax_code_path(const char *form);
#endif

int main(int count, char **arguments) {
    if (count != 4) die("mock_runtime LIBRARY CASE OUTPUT");
    struct status *(*enter)(void *, const struct base *);
    const char *(*code_path)(const char *);
#ifdef STATIC
    enter = RegisterCustomOps, code_path = addax_code_path;
#else
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) die(dlerror());
    *(void **)&enter = dlsym(library, "RegisterCustomOps");
    *(void **)&code_path = dlsym(library, "addax_code_path");
    if (!enter || !code_path) die("the library lacks its functions");
#endif
    static struct node node;
    read_node(arguments[2], &node);
    fill_table();
    const struct base base = {get_api, NULL};
    check(enter("options", &base));
    check(enter("options", &base)); /* a second session */
    if (domains != 2) die("the domain was not added to each session");

    const struct op *op = NULL;
    for (size_t i = 0; i < registered_count; i++) {
        printf("registered %s\n", registered[i]->get_name(registered[i]));
        if (!strcmp(registered[i]->get_name(registered[i]), node.name)) op = registered[i];
    }
    const char *forms[] = {"codebook4", "codebook2", "binary1", "binary2",
                           "binary3",   "binary4",   "int8",    "log_code",
                           "mixture",   "static",    "linear_attention"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        printf("path %s %s\n", forms[i], code_path(forms[i]) ? code_path(forms[i]) : "body");
    if (!op) die("the op of the case is not registered");

    void *kernel = NULL;
    check(op->create(op, table, &node, &kernel));
    for (int again = 0; again < 2; again++) check(op->compute(kernel, &node));
    op->destroy(kernel);
    size_t bytes = sizeof(float);
    printf("shape");
    for (size_t d = 0; d < node.output.shape.rank; d++) {
        printf(" %lld", (long long)node.output.shape.dims[d]);
        bytes *= (size_t)node.output.shape.dims[d];
    }
    printf("\n");
    FILE *file = fopen(arguments[3], "wb");
    if (!file || (bytes && fwrite(node.output.data, bytes, 1, file) != 1)) die("no output");
    fclose(file);
    return 0;
}
