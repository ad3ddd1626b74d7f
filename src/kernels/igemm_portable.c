/* Integer matrix product in plain C, through the kernels that the vector instruction sets use: a vector is an array, and dot the four products of
 * vpdpbusd. "scalar" has the shape of AVX-VNNI, "scalar-512" that of AVX512-VNNI: a CPU without them can test all but the instructions. */
#include "kernels/igemm_path.h"
#include <string.h>

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
        uint8_t a[bits / 8];                                                                                                 \
        int8_t  b[bits / 8];                                                                                                 \
        (void)kind, memcpy(a, &x, sizeof x), memcpy(b, &w, sizeof w);                                                        \
        for (int i = 0; i < bits / 32; i++) {                                                                                \
            int32_t four = a[4 * i] * b[4 * i] + a[4 * i + 1] * b[4 * i + 1] + a[4 * i + 2] * b[4 * i + 2] + a[4 * i + 3] * b[4 * i + 3]; \
            sum.lane[i] = (int32_t)((uint32_t)sum.lane[i] + (uint32_t)four);                                                 \
        }                                                                                                                    \
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
#define KINDS   1
#include "kernels/igemm_tile.h"

#define V       vector_512
#define NAME(f) f##_512
#define TARGET
#define LANES   16
#define ROWS    8
#define VECTORS 3
#define KINDS   1
#include "kernels/igemm_tile.h"

static bool has(void) { return true; }

const qt_igemm_path qt_igemm_portable = {"scalar", has, 8, 6, 2, false, &qt_ipack_portable, strip_256, few_256};
const qt_igemm_path qt_igemm_portable512 = {"scalar-512", has, 16, 8, 3, false, &qt_ipack_portable, strip_512, few_512};
