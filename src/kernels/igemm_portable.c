/* Integer matrix product in plain C, through the kernels that the vector instruction sets use. "scalar" is for any CPU; "scalar-512" has the
 * shape of AVX512-VNNI, so that a CPU without it tests all of that path but its instructions.
 *
 * A vector is made of the compiler's own vectors of 16 bytes, which every CPU of today has. A product of an unsigned and a signed byte fits
 * int16 (255 * -128 = -32640), so bytes are taken apart into even and odd ones, multiplied as int16, and the products widened by shifts. Which of
 * them is called even does not matter, so neither does the order of bytes in memory. */
#include "kernels/igemm_path.h"
#include <string.h>

typedef uint32_t uint4 __attribute__((vector_size(16)));
typedef int32_t  int4 __attribute__((vector_size(16)));
typedef uint16_t ushort8 __attribute__((vector_size(16)));
typedef int16_t  short8 __attribute__((vector_size(16)));

/* The sum of both int16 in each 32 bits */
static inline uint4 halves(short8 p) { return (uint4)((int4)((uint4)p << 16) >> 16) + (uint4)((int4)p >> 16); }

static inline uint4 bytes(uint4 sum, uint4 x, uint4 w)
{
    short8 even = (short8)((ushort8)x & 255) * ((short8)((ushort8)w << 8) >> 8), odd = (short8)((ushort8)x >> 8) * ((short8)w >> 8);
    return sum + halves(even) + halves(odd);
}

static inline uint4 pairs(uint4 sum, uint4 x, uint4 w)
{
    int4 even = ((int4)(x << 16) >> 16) * ((int4)(w << 16) >> 16), odd = ((int4)x >> 16) * ((int4)w >> 16);
    return sum + (uint4)even + (uint4)odd;
}

#define OPERATIONS(bits)                                                                                                 \
    typedef struct vector_##bits {                                                                                       \
        uint4 part[bits / 128];                                                                                          \
    } vector_##bits;                                                                                                     \
    static inline vector_##bits zero_##bits(void) { return (vector_##bits){{{0}}}; }                                     \
    static inline vector_##bits load_##bits(const void *p)                                                               \
    {                                                                                                                    \
        vector_##bits v;                                                                                                 \
        memcpy(&v, p, sizeof v);                                                                                         \
        return v;                                                                                                        \
    }                                                                                                                    \
    static inline void          store_##bits(void *p, vector_##bits v) { memcpy(p, &v, sizeof v); }                      \
    static inline vector_##bits add_##bits(vector_##bits a, vector_##bits b)                                             \
    {                                                                                                                    \
        for (int i = 0; i < bits / 128; i++) a.part[i] += b.part[i];                                                     \
        return a;                                                                                                        \
    }                                                                                                                    \
    static inline vector_##bits broadcast_##bits(const uint8_t *p)                                                       \
    {                                                                                                                    \
        vector_##bits v;                                                                                                 \
        uint32_t      step;                                                                                              \
        memcpy(&step, p, sizeof step);                                                                                   \
        for (int i = 0; i < bits / 128; i++) v.part[i] = (uint4){step, step, step, step};                                \
        return v;                                                                                                        \
    }                                                                                                                    \
    static inline vector_##bits dot_##bits(int kind, vector_##bits sum, vector_##bits x, vector_##bits w)                \
    {                                                                                                                    \
        for (int i = 0; i < bits / 128; i++)                                                                             \
            sum.part[i] = kind == QT_IGEMM_PAIRS ? pairs(sum.part[i], x.part[i], w.part[i]) : bytes(sum.part[i], x.part[i], w.part[i]); \
        return sum;                                                                                                      \
    }                                                                                                                    \
    static inline vector_##bits widen_##bits(int kind, vector_##bits sum) { return (void)kind, sum; }                    \
    static inline vector_##bits load_x_##bits(int kind, const uint8_t *p) { return (void)kind, load_##bits(p); }         \
    static inline vector_##bits load_w_##bits(int kind, const uint8_t *p) { return (void)kind, load_##bits(p); }         \
    static inline void          reduce_##bits(const vector_##bits *v, int32_t *c)                                        \
    {                                                                                                                    \
        for (int i = 0; i < QT_IGEMM_FEW; i++) {                                                                         \
            uint4 sum = v[i].part[0];                                                                                    \
            for (int k = 1; k < bits / 128; k++) sum += v[i].part[k];                                                    \
            c[i] = (int32_t)(sum[0] + sum[1] + sum[2] + sum[3]);                                                         \
        }                                                                                                                \
    }

OPERATIONS(256)
OPERATIONS(512)

#define V       vector_256
#define NAME(f) f##_256
#define TARGET
#define LANES   8
#define ROWS    2
#define VECTORS 2
#define KINDS   2
#include "kernels/igemm_tile.h"

#undef UNROLL /* these sums do not fit registers anyway */
#define UNROLL
#define V       vector_512
#define NAME(f) f##_512
#define TARGET
#define LANES   16
#define ROWS    8
#define VECTORS 3
#define KINDS   2
#include "kernels/igemm_tile.h"

static bool has(void) { return true; }

const qt_igemm_path qt_igemm_portable = {"scalar", has, 8, 2, 2, false, &qt_ipack_portable, strip_256, few_256};
const qt_igemm_path qt_igemm_portable512 = {"scalar-512", has, 16, 8, 3, false, &qt_ipack_portable, strip_512, few_512};
