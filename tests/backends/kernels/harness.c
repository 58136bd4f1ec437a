/* Run calls of kernels from a file: harness FILE. Written back: the memory after the calls.
 *
 * The file: int64 size of the memory, int64 count of calls, the calls, then the memory. An argument
 * is the place of an array in the memory (-1: no array), an int32, or the bits of a float. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct call {
    char kernel[48];
    int64_t arguments[20];
};

static char *memory;

static void *at(int64_t place) { return place < 0 ? NULL : memory + place; }

static float real(int64_t bits) {
    int32_t low = (int32_t)bits;
    float made;
    memcpy(&made, &low, sizeof made);
    return made;
}

static void need(int held, const char *what) {
    if (!held) {
        fprintf(stderr, "harness: %s\n", what);
        exit(2);
    }
}

/* int call_kernel(const char *kernel, const int64_t *a): 0 if there is no such kernel. */
#include "calls.h"

int main(int count, char **arguments) {
    int64_t head[2];
    need(count == 2, "expected one file");
    FILE *file = fopen(arguments[1], "r+b");
    need(file != NULL, "the file cannot be opened");
    need(fread(head, sizeof head, 1, file) == 1, "the file is short");
    memory = aligned_alloc(64, (size_t)head[0]);
    struct call *calls = malloc((size_t)head[1] * sizeof *calls);
    need(memory != NULL && calls != NULL, "out of memory");
    need(fread(calls, sizeof *calls, (size_t)head[1], file) == (size_t)head[1], "calls are missing");
    need(fread(memory, 1, (size_t)head[0], file) == (size_t)head[0], "memory is missing");
    for (int64_t i = 0; i < head[1]; i++)
        need(call_kernel(calls[i].kernel, calls[i].arguments), "no such kernel");
    rewind(file);
    need(fwrite(memory, 1, (size_t)head[0], file) == (size_t)head[0], "the file cannot be written");
    need(fclose(file) == 0, "the file cannot be written");
    return 0;
}
