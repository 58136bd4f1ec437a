/* Run calls of kernels from a file: harness FILE. Written back: the memory after the calls.
 *
 * The file: int64 size of the memory, int64 count of calls, for each call int64 kernel (its number
 * in calls.h) and int64 arguments[MOST_ARGUMENTS], then the memory. An argument is the place of an
 * array in the memory (-1: no array), an int32, or the bits of a float. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ARGUMENTS 20

static char *memory;

static void *at(int64_t place) { return place < 0 ? NULL : memory + place; }

static float real(int64_t bits) {
    int32_t low = (int32_t)bits;
    float made;
    memcpy(&made, &low, sizeof made);
    return made;
}

/* static void call_kernel(int64_t number, const int64_t *a): written from the kernels' parameters */
#include "calls.h"

static void need(int held, const char *what) {
    if (!held) {
        fprintf(stderr, "harness: %s\n", what);
        exit(2);
    }
}

int main(int count, char **arguments) {
    int64_t head[2], call[1 + MOST_ARGUMENTS];
    need(count == 2, "expected one file");
    FILE *file = fopen(arguments[1], "r+b");
    need(file != NULL, "the file cannot be opened");
    need(fread(head, sizeof head, 1, file) == 1, "the file is short");
    memory = aligned_alloc(64, (size_t)head[0]);
    int64_t *calls = malloc((size_t)head[1] * sizeof call);
    need(memory != NULL && calls != NULL, "out of memory");
    need(fread(calls, sizeof call, (size_t)head[1], file) == (size_t)head[1], "calls are missing");
    need(fread(memory, 1, (size_t)head[0], file) == (size_t)head[0], "memory is missing");
    for (int64_t i = 0; i < head[1]; i++)
        call_kernel(calls[i * (1 + MOST_ARGUMENTS)], calls + i * (1 + MOST_ARGUMENTS) + 1);
    rewind(file);
    need(fwrite(memory, 1, (size_t)head[0], file) == (size_t)head[0], "the file cannot be written");
    need(fclose(file) == 0, "the file cannot be written");
    return 0;
}
