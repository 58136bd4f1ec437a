/* The kernels in plain loops: what the generated ones must compute, and enough to test all that
   calls them. Every kernel decodes a weight by its definition in the dialect's documentation. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define PREPARE                                                                                    \
    const float *x, int8_t *q, float *s, int32_t *sum, int32_t rows, int32_t columns,              \
        int32_t groups, int32_t group, int32_t first, int32_t last
#define LINEAR                                                                                     \
    const int8_t *q, const float *s, const int32_t *sum, const uint8_t *codes,                     \
        const uint8_t *table, const uint8_t *multipliers, const float *scale, float *y,            \
        uint8_t *weights, float *sums, int32_t rows, int32_t outputs, int32_t groups,              \
        int32_t group, int32_t first, int32_t last

/* Place of a row's group in q, in units of columns. */
#define AT(r, g) (((size_t)(g) * rows + (r)) * group)

void addax_quantize_scalar(PREPARE) {
    for (int32_t r = first; r < last; r++)
        for (int32_t g = 0; g < groups; g++) {
            int32_t end = (g + 1) * group < columns ? (g + 1) * group : columns, total = 0;
            float most = 0;
            for (int32_t k = g * group; k < end; k++) most = fmaxf(most, fabsf(x[r * columns + k]));
            s[g * rows + r] = most / 127;
            memset(q + AT(r, g), 0, group);
            for (int32_t k = g * group; k < end && most > 0; k++) {
                int8_t v = (int8_t)nearbyintf(x[r * columns + k] * (127 / most));
                q[AT(r, g) + k - g * group] = v;
                total += v;
            }
            sum[g * rows + r] = total;
        }
}

void addax_stairs_scalar(PREPARE, float step, float low, float high, int32_t shift,
                         const int32_t *starts, const int32_t *jumps) {
    (void)rows, (void)groups;
    for (int32_t r = first; r < last; r++) {
        sum[r] = 0;
        s[r] = 1;
        for (int32_t k = 0; k < group; k++) {
            int32_t code = 0;
            if (k < columns) {
                float v = nearbyintf(fminf(fmaxf(x[r * columns + k] / step, low), high));
                code = shift + (starts ? 0 : (int32_t)v);
                for (int32_t j = 0; starts && j < 15; j++)
                    if ((int32_t)v >= starts[j]) code += jumps[j];
            }
            q[r * group + k] = (int8_t)code;
            sum[r] += code;
        }
    }
}

void addax_levels_scalar(PREPARE, float step, float low, float high, int32_t shift) {
    addax_stairs_scalar(x, q, s, sum, rows, columns, groups, group, first, last, step, low, high,
                        shift, 0, 0);
}

static float signed_sum(const float *x, int32_t k, int32_t columns, int32_t entry) {
    float total = 0;
    for (int32_t b = 0; b < 4; b++)
        if (k + b < columns) total += entry >> b & 1 ? x[k + b] : -x[k + b];
    return total;
}

void addax_tables_scalar(PREPARE) {
    (void)sum;
    for (int32_t r = first; r < last; r++)
        for (int32_t g = 0; g < groups; g++) {
            const float *row = x + r * columns;
            const int32_t start = g * group;
            float most = 0;
            for (int32_t k = start; k < start + group; k += 4)
                for (int32_t e = 0; e < 16; e++)
                    most = fmaxf(most, fabsf(signed_sum(row, k, columns, e)));
            s[g * rows + r] = most / 127;
            for (int32_t k = start; k < start + group; k += 4)
                for (int32_t e = 0; e < 16; e++) {
                    float v = most > 0 ? signed_sum(row, k, columns, e) * (127 / most) : 0;
                    q[(AT(r, g) + k - start) * 4 + e] = (int8_t)nearbyintf(v);
                }
        }
}

static int32_t codebook(const uint8_t *codes, const uint8_t *table, int32_t groups, int32_t group,
                        int32_t n, int32_t k, int32_t bits) {
    const int32_t fields = 8 / bits, steps = group * bits / 32, local = k % group;
    const int32_t s = local / (4 * fields), j = local % (4 * fields) / 4, c = local % 4;
    const int64_t at = ((((int64_t)(n / 64) * groups + k / group) * steps + s) * 64 + n % 64) * 4 + c;
    return (int8_t)table[codes[at] >> bits * j & ((1 << bits) - 1)];
}

static int32_t sign(const uint8_t *planes, int32_t groups, int32_t group, int32_t n, int32_t k,
                    int32_t plane, int32_t count) {
    const int32_t local = k % group, t = n / 64, r = n % 64 / 16, l = n % 16;
    const int32_t s = local / 32, h = local % 32 / 16, c = local % 16 / 4, b = local % 4;
    int64_t at = ((int64_t)t * groups + k / group) * count + plane;
    at = (((at * 4 + r) * (group / 32) + s) * 16 + l) * 4 + c;
    return planes[at] >> (4 * h + b) & 1 ? 1 : -1;
}

static int32_t int8(const uint8_t *weights, int32_t group, int32_t n, int32_t k) {
    return (int8_t)weights[(((int64_t)(n / 64) * (group / 4) + k / 4) * 64 + n % 64) * 4 + k % 4];
}

/* Scratch memory is ours to write where there is any. */
static void fill(uint8_t *weights, float *sums, int32_t rows, int32_t group) {
    if (weights) memset(weights, 0xff, 64 * (size_t)group);
    if (sums) memset(sums, 0xff, 64 * (size_t)rows * sizeof *sums);
}

/* y = scale * sum over groups of s * multiplier * (integer of the group) */
#define EACH_OUTPUT(INTEGER)                                                                       \
    (void)sum, (void)table, (void)multipliers, fill(weights, sums, rows, group);                         \
    for (int32_t r = 0; r < rows; r++)                                                             \
        for (int32_t n = 64 * first; n < 64 * last && n < outputs; n++) {                          \
            float total = 0;                                                                       \
            for (int32_t g = 0; g < groups; g++) {                                                 \
                int32_t integer = 0;                                                               \
                INTEGER total += s[g * rows + r] * (float)integer;                               \
            }                                                                                      \
            y[(int64_t)r * outputs + n] = total * scale[n];                                        \
        }

#define EACH_COLUMN(WEIGHT)                                                                        \
    for (int32_t k = g * group; k < (g + 1) * group; k++)                                          \
        integer += (WEIGHT) * q[AT(r, g) + k - g * group];

#define CODEBOOK(BITS, WHICH)                                                                      \
    void addax_codebook##BITS##_##WHICH##_scalar(LINEAR) {                                         \
        EACH_OUTPUT(EACH_COLUMN(codebook(codes, table, groups, group, n, k, BITS)) integer *=      \
                    multipliers[((int64_t)(n / 64) * groups + g) * 64 + n % 64];)                  \
    }
CODEBOOK(4, few)
CODEBOOK(4, many)
CODEBOOK(2, few)
CODEBOOK(2, many)

#define MULTIPLIER(PLANE, COUNT)                                                                   \
    multipliers[(((int64_t)(n / 64) * groups + g) * COUNT + PLANE) * 64 + n % 64]

#define BINARY(COUNT)                                                                              \
    void addax_binary##COUNT##_many_scalar(LINEAR) {                                               \
        EACH_OUTPUT(for (int32_t i = 0; i < COUNT; i++) EACH_COLUMN(                               \
            MULTIPLIER(i, COUNT) * sign(codes, groups, group, n, k, i, COUNT)))                    \
    }                                                                                              \
    void addax_binary##COUNT##_few_scalar(LINEAR) {                                                \
        EACH_OUTPUT(for (int32_t i = 0; i < COUNT; i++) for (int32_t k = g * group;                \
                                                             k < (g + 1) * group; k += 4) {        \
            int32_t entry = 0;                                                                     \
            for (int32_t b = 0; b < 4; b++)                                                        \
                entry |= (sign(codes, groups, group, n, k + b, i, COUNT) > 0) << b;                \
            integer +=                                                                             \
                MULTIPLIER(i, COUNT) * q[(AT(r, g) + k - g * group) * 4 + entry];                \
        })                                                                                         \
    }
BINARY(1)
BINARY(2)
BINARY(3)
BINARY(4)

void addax_int8_scalar(LINEAR) { EACH_OUTPUT(EACH_COLUMN(int8(codes, group, n, k))) }

/* --- other operators --- */

void addax_values_scalar(const float *v, int8_t *q, float *s, int32_t *sum, int32_t length,
                         int32_t width) {
    const int32_t columns = (width + 15) / 16 * 16;
    float most = 0;
    for (int32_t i = 0; i < length * width; i++) most = fmaxf(most, fabsf(v[i]));
    *s = most > 0 ? most / 127 : 1;
    memset(q, 0, (size_t)((length + 3) / 4) * columns * 4);
    memset(sum, 0, columns * sizeof *sum);
    for (int32_t l = 0; l < length; l++)
        for (int32_t d = 0; d < width; d++) {
            int8_t rounded = (int8_t)nearbyintf(v[l * width + d] / *s);
            q[(l / 4 * columns + d) * 4 + l % 4] = rounded;
            sum[d] += rounded;
        }
}

void addax_log_code_attention_scalar(const float *scores, const float *mask, const int8_t *q,
                                     const float *s, const int32_t *sum, const uint8_t *table,
                                     float *y, uint8_t *codes, int32_t rows, int32_t length,
                                     int32_t width, int32_t mask_row, int32_t mask_column,
                                     int32_t last, float scale, float steps) {
    (void)sum;
    const int32_t columns = (width + 15) / 16 * 16;
    for (int32_t r = 0; r < rows; r++) {
        float most = -3.4028234663852886e38f;
        int32_t total = 0;
        for (int32_t l = 0; l < length; l++)
            most = fmaxf(most, scores[r * length + l] * scale + mask[r * mask_row + l * mask_column]);
        for (int32_t l = 0; l < length; l++) {
            float t = scores[r * length + l] * scale + mask[r * mask_row + l * mask_column];
            float code = nearbyintf((most - t) * (steps * 1.4426950408889634f));
            codes[l] = table[code < last ? (int32_t)code : last];
            total += codes[l];
        }
        for (int32_t d = 0; d < width; d++) {
            int32_t integer = 0;
            for (int32_t l = 0; l < length; l++)
                integer += codes[l] * q[(l / 4 * columns + d) * 4 + l % 4];
            y[r * width + d] = *s * (float)integer / (float)(total > 1 ? total : 1);
        }
    }
}

void addax_binary_linear_attention_scalar(const float *x, const float *filters, float *y,
                                          float *scratch, int32_t tokens, int32_t heads,
                                          int32_t head, int32_t bits, int32_t width, int32_t taps,
                                          float value_weight, float sum_weight, float epsilon) {
    const int32_t row = heads * (2 * bits + width);
    const float *queries = x + head * bits, *keys = x + (heads + head) * bits;
    const float *values = x + 2 * heads * bits + head * width, *filter = filters + head * taps;
    float *u = scratch + bits * width;
    memset(scratch, 0, bits * width * sizeof *scratch);
    for (int32_t n = 0; n < tokens; n++)
        for (int32_t m = 0; m < bits; m++)
            for (int32_t d = 0; d < width && keys[n * row + m] > 0; d++)
                scratch[m * width + d] += values[n * row + d];
    for (int32_t n = 0; n < tokens; n++) {
        float square = 0;
        for (int32_t d = 0; d < width; d++) {
            float seen = 0;
            for (int32_t m = 0; m < bits; m++)
                if (queries[n * row + m] > 0) seen += scratch[m * width + d];
            u[d] = value_weight * values[n * row + d] + sum_weight * seen;
            square += u[d] * u[d];
        }
        for (int32_t d = 0; d < width; d++) {
            float made = u[d] / fmaxf(sqrtf(square), epsilon);
            for (int32_t t = 0; t < taps; t++) {
                int32_t other = n + t - taps / 2;
                if (other >= 0 && other < tokens) made += filter[t] * values[other * row + d];
            }
            y[(n * heads + head) * width + d] = made;
        }
    }
}

void addax_float_matmul_scalar(const float *x, const float *weights, const float *bias, float *y,
                               int32_t rows, int32_t columns, int32_t outputs, int32_t first,
                               int32_t last) {
    for (int32_t r = 0; r < rows; r++)
        for (int32_t n = 64 * first; n < 64 * last && n < outputs; n++) {
            float total = bias[n];
            for (int32_t k = 0; k < columns; k++)
                total += x[r * columns + k] * weights[(n / 64 * columns + k) * 64 + n % 64];
            y[(int64_t)r * outputs + n] = total;
        }
}
