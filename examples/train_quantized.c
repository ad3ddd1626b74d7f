/* Two spirals, a net of two linear layers, 4-bit weights and inputs with learned steps (LSQ): define, train quantized, save. */
#include <math.h>
#include <qtape.h>

enum { N = 256, HIDDEN = 32, STEPS = 400 };

/* Point i lies on spiral i % 2. */
static void spirals(qt_tensor *x, qt_tensor *y)
{
    for (int i = 0; i < N; i++) {
        double r = (i / 2 + 16) / 144.0, angle = 5 * r + (i % 2) * 3.14159265;
        x->data[2 * i] = (qt_real)(r * cos(angle)), x->data[2 * i + 1] = (qt_real)(r * sin(angle)), y->ids[i] = i % 2;
    }
}

int main(void)
{
    qt_store  *s = qt_store_new(1);
    qt_tensor *w1 = qt_param_add(s, "fc1.weight", QT_WEIGHT, QT_INIT_FAN_IN(2), 2, (int64_t[]){HIDDEN, 2});
    qt_tensor *b1 = qt_param_add(s, "fc1.bias", QT_BIAS, QT_INIT_FAN_IN(2), 1, (int64_t[]){HIDDEN});
    qt_tensor *w2 = qt_param_add(s, "fc2.weight", QT_WEIGHT, QT_INIT_FAN_IN(HIDDEN), 2, (int64_t[]){2, HIDDEN});
    qt_tensor  hidden = {.rank = 2, .dim = {N, HIDDEN}, .n = N * HIDDEN}; /* what fc2 will read: only its shape matters here */
    qt_site   *q1 = qt_site_new(s, "fc1.weight", QT_ROLE_WEIGHT, "{use: lsq, num_bits: 4}", w1);
    qt_site   *qa = qt_site_new(s, "fc2.input", QT_ROLE_ACT, "{use: lsq, num_bits: 4, signed: false}", &hidden);
    qt_site   *q2 = qt_site_new(s, "fc2.weight", QT_ROLE_WEIGHT, "{use: lsq, num_bits: 4}", w2);
    if (!q1 || !qa || !q2 || qt_store_seal(s, 2) != QT_OK) return fputs(qt_error_text(), stderr), 1;
    qt_optimizer *adam = qt_optimizer_new(s, "{use: adam, lr: 1e-2}");
    qt_tape      *t = qt_tape_new();
    if (!adam || !t) return fputs(qt_error_text(), stderr), 1;
    for (int step = 0; step <= STEPS; step++) {
        qt_tensor *x = qt_input(t, 2, (int64_t[]){N, 2}), *y = qt_input_ids(t, 1, (int64_t[]){N});
        spirals(x, y);
        qt_tensor *h = qt_relu(t, qt_linear(t, x, qt_quantize(t, q1, w1), b1));
        qt_tensor *out = qt_linear(t, qt_quantize(t, qa, h), qt_quantize(t, q2, w2), NULL);
        qt_tensor *loss = qt_cross_entropy(t, out, y, 0, -100);
        if (qt_backward(t, loss) != QT_OK) return fputs(qt_error_text(), stderr), 1;
        int right = 0;
        for (int i = 0; i < N; i++) right += (out->data[2 * i + 1] > out->data[2 * i]) == y->ids[i];
        if (step % 50 == 0) printf("step %3d  loss %.4f  accuracy %.1f %%\n", step, (double)loss->data[0], 100.0 * right / N);
        if (qt_optimizer_step(adam, 1) != QT_OK) return fputs(qt_error_text(), stderr), 1;
        qt_tape_reset(t);
    }
    if (qt_store_save(s, "spirals.h5") != QT_OK) return fputs(qt_error_text(), stderr), 1;
    return qt_tape_free(t), qt_optimizer_free(adam), qt_store_free(s), 0;
}
