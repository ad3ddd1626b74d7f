/* What one sample costs, by the widths of the operands. Over all layers, with b_W and b_A the bits of weight and input:
 *
 *     quadratic = sum MACs b_W b_A / 256                    a multiplier's area and energy grow with the product of the widths
 *     linear    = sum MACs max(b_W, b_A) / 16               b rounded up to 4, 8 or 16: a processor's lanes
 *     binary    = sum MACs, a 64th of them where b_W = b_A = 1    an exclusive or and a count of ones for 64 of them
 *
 * the first two in multiply-adds of 16 bits, so that W4A4 costs 1/16 of 16 bits (linear: 1/4). What is not quantized counts as 16 bits.
 *
 * Abdolrashidi et al. 2021, "Pareto-Optimal Quantized ResNet Is Mostly 4-bit" (arXiv 2105.03536), section on cost models; Qin et al. 2023, "BiBench"
 * (arXiv 2301.11233), for binary. */
#include "train/train.h"
#include <math.h>

static double bits_of(const qt_site *q) { return q ? fmin(16, q->quant->bits(q)) : 16; }
static double lane(double bits) { return bits <= 4 ? 4 : bits <= 8 ? 8 : 16; }

qt_cost qt_model_cost(const qt_model *m)
{
    qt_cost c = {0};
    for (int i = 0; i < m->n; i++) {
        const qt_module *l = &m->m[i];
        double           macs = l->layer->macs ? (double)l->layer->macs(l) : 0, w = bits_of(l->weight), a = bits_of(l->act);
        c.macs += macs, c.quadratic += macs * w * a / 256, c.linear += macs * lane(fmax(w, a)) / 16;
        c.binary += w == 1 && a == 1 ? macs / 64 : macs;
    }
    return c;
}
