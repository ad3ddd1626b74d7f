/* Distance of a convolution from an orthogonal one. With circular padding the layer is a matrix KK of M N^2 rows (M output channels, N x N
 * outputs) and C S^2 N^2 columns (stride S). For a kernel K [M,C,k,k], P = floor((k-1)/S) S and n = 2P/S + 1,
 *
 *     T[a,b,i,j] = sum over c,u,v of K[b,c,u,v] K[a,c,u + iS - P, v + jS - P], zero outside of the kernel       [M,M,n,n]
 *     L(K)       = || T - I ||_F^2 - max(0, M - C S^2),       I = 1 where a = b and i = j = (n-1)/2, else 0
 *
 * T is the correlation of K with itself: conv2d with K as image and as kernel, stride S and zero padding P. Both operands are the parameter,
 * and the tape adds both gradients. T[.,.,d] are the products of filters that lie d outputs apart, so T = I says that the rows of KK are
 * orthonormal, and N^2 L = || KK KK^T - Id ||_F^2 for every N with S N >= 2k - 1. With more rows than columns, M > C S^2, rows cannot be, and
 * N^2 L = || KK^T KK - Id ||_F^2: the two norms differ by rows - columns = N^2 (M - C S^2), a constant. L does not depend on the image, and
 * bounds the spectral distance: || . ||_2 <= alpha sqrt(L), alpha = (2 floor((k-1)/S) + 1) sqrt(M) for rows, (2k-1) sqrt(C) for columns.
 *
 * A linear layer is a convolution with k = S = 1. Where the sides of a kernel differ, P is that of the longer: shifts
 * by more than the shorter give zeros.
 * Achour, Malgouyres, Mamalet, "Existence, Stability and Scalability of Orthogonal Convolutional Neural Networks", JMLR 23, 2022, section 2;
 * the penalty is that of Wang, Chen, Chakraborty, Yu, "Orthogonal Convolutional Neural Networks", CVPR 2020.
 * Left out: groups and dilation, which are refused. With zero padding L is a penalty as any other, and the identities do not hold. */
#include "nn/nn.h"

static const qt_field fields[] = {QT_REGULARIZER_FIELDS, {NULL}};

static qt_err suits(const void *cfg, const qt_module *m)
{
    qt_walk w;
    (void)cfg;
    if (m->layer == &qt_layer_linear) return QT_OK;
    if (!qt_conv2d_walk(m, &w)) return qt_module_fail(m, "regularizer orthogonal: looks at conv2d and linear layers, not at %s", m->layer->d.name);
    if (w.groups > 1 || w.dilation > 1) return qt_module_fail(m, "regularizer orthogonal: takes no groups and no dilation");
    return QT_OK;
}

/* 1 where a filter meets itself, at the centre. */
static qt_tensor *identity(qt_tape *t, const qt_tensor *T)
{
    qt_tensor *I = qt_input(t, 4, T->dim);
    int64_t    M = T->dim[1], n = T->dim[2] * T->dim[3];
    for (int64_t a = 0; I->data && a < M; a++) I->data[(a * M + a) * n + n / 2] = 1;
    return I;
}

static qt_tensor *constant(qt_tape *t, int64_t v)
{
    qt_tensor *x = qt_input(t, 1, (int64_t[]){1});
    if (x->data) x->data[0] = (R)v;
    return x;
}

static qt_tensor *distance(qt_tape *t, qt_tensor *K, int64_t S)
{
    int64_t    M = K->dim[0], C = K->dim[1], k = K->dim[2] > K->dim[3] ? K->dim[2] : K->dim[3];
    qt_tensor *T = qt_conv2d(t, K, K, NULL, (int)S, (int)((k - 1) / S * S), 1, 1);
    if (t->err) return T;
    qt_tensor *L = qt_scale(t, qt_mse(t, T, identity(t, T)), (double)T->n);
    return M > C * S * S ? qt_sub(t, L, constant(t, M - C * S * S)) : L;
}

static qt_tensor *apply(qt_tape *t, const void *cfg, const qt_module *m, qt_tensor *w)
{
    qt_walk walk = {.stride = 1};
    (void)cfg;
    if (t->err) return w;
    if (!qt_conv2d_walk(m, &walk)) w = qt_reshape(t, w, 4, (int64_t[]){w->dim[0], w->dim[1], 1, 1});
    return distance(t, w, walk.stride);
}

const qt_regularizer qt_regularizer_orthogonal = {
    {"orthogonal", "distance of a convolution or linear layer from an orthogonal one", "Achour et al. 2022, section 2; Wang et al. 2020", fields,
     sizeof(qt_regularizer_base)},
    apply,
    suits};
