/* Integer matrix product in plain C, through the kernels that the vector instruction sets use: a vector is an array, and dot the four products of
 * vpdpbusd, or the two of vpdpwssd. "scalar" has the shape of AVX-VNNI, "scalar-512" that of AVX512-VNNI: a CPU without them can test all but the instructions. */
#include "kernels/igemm_path.h"
#include <string.h>

static inline uint32_t bytes(int32_t x, int32_t w)
{
    uint8_t a[4];
    int8_t  b[4];
    memcpy(a, &x, sizeof a), memcpy(b, &w, sizeof b);
    return (uint32_t)(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]);
}

static inline uint32_t pairs(int32_t x, int32_t w)
{
    int16_t a[2], b[2];
    memcpy(a, &x, sizeof a), memcpy(b, &w, sizeof b);
    return (uint32_t)(a[0] * b[0]) + (uint32_t)(a[1] * b[1]);
}

#define OPERATIONS(bits)                                                                                                     \
    typedef struct vector_##bits {                                                                                           \
        int32_t lane[bits / 32];                                                                                             \
    } vector_##bits;                                                                                                         \
    static inline vector_##bits zero_##bits(void) { return (vector_##bits){{0}}; }                                           \
    static inline vector_##bits load_##bits(const void *p)                                                                   \
    {                                                                                                                        \
        vector_##bits v;                                                                                                     \
        memcpy(&v, p, sizeof v);                                                                                             \
        return v;                                                                                                            \
    }                                                                                                                        \
    static inline void          store_##bits(void *p, vector_##bits v) { memcpy(p, &v, sizeof v); }                          \
    static inline vector_##bits add_##bits(vector_##bits a, vector_##bits b)                                                 \
    {                                                                                                                        \
        for (int i = 0; i < bits / 32; i++) a.lane[i] = (int32_t)((uint32_t)a.lane[i] + (uint32_t)b.lane[i]);                \
        return a;                                                                                                            \
    }                                                                                                                        \
    static inline vector_##bits broadcast_##bits(const uint8_t *p)                                                           \
    {                                                                                                                        \
        vector_##bits v;                                                                                                     \
        for (int i = 0; i < bits / 32; i++) memcpy(&v.lane[i], p, 4);                                                        \
        return v;                                                                                                            \
    }                                                                                                                        \
    static inline vector_##bits dot_##bits(int kind, vector_##bits sum, vector_##bits x, vector_##bits w)                    \
    {                                                                                                                        \
        for (int i = 0; i < bits / 32; i++)                                                                                  \
            sum.lane[i] = (int32_t)((uint32_t)sum.lane[i] + (kind == QT_IGEMM_PAIRS ? pairs(x.lane[i], w.lane[i]) : bytes(x.lane[i], w.lane[i]))); \
        return sum;                                                                                                          \
    }                                                                                                                        \
    static inline vector_##bits widen_##bits(int kind, vector_##bits sum) { return (void)kind, sum; }                        \
    static inline vector_##bits load_x_##bits(int kind, const uint8_t *p) { return (void)kind, load_##bits(p); }             \
    static inline vector_##bits load_w_##bits(int kind, const uint8_t *p) { return (void)kind, load_##bits(p); }             \
    static inline void          reduce_##bits(const vector_##bits *v, int32_t *c)                                            \
    {                                                                                                                        \
        for (int i = 0; i < QT_IGEMM_FEW; i++) {                                                                             \
            uint32_t sum = 0;                                                                                                \
            for (int k = 0; k < bits / 32; k++) sum += (uint32_t)v[i].lane[k];                                               \
            c[i] = (int32_t)sum;                                                                                             \
        }                                                                                                                    \
    }

OPERATIONS(256)
OPERATIONS(512)

#define V       vector_256
#define NAME(f) f##_256
#define TARGET
#define LANES   8
#define ROWS    6
#define VECTORS 2
#define KINDS   2
#include "kernels/igemm_tile.h"

#define V       vector_512
#define NAME(f) f##_512
#define TARGET
#define LANES   16
#define ROWS    8
#define VECTORS 3
#define KINDS   2
#include "kernels/igemm_tile.h"

static bool has(void) { return true; }

const qt_igemm_path qt_igemm_portable = {"scalar", has, 8, 6, 2, false, &qt_ipack_portable, strip_256, few_256};
const qt_igemm_path qt_igemm_portable512 = {"scalar-512", has, 16, 8, 3, false, &qt_ipack_portable, strip_512, few_512};
