/* Metrics: a sum over samples and what is made of it at the end. out is [n, ...], one row a sample; of classes, [..., C], one row a target. */
#include "nn/nn.h"
#include <math.h>

/* How many samples have fewer than k outputs above that of their class. Of equal outputs the one in front counts as larger. An output
 * that is not a number is wrong. */
static double count_top(const qt_tensor *out, const int32_t *y, int k)
{
    int64_t C = out->dim[out->rank - 1], right = 0;
    for (int64_t i = 0; i < out->n / C; i++) {
        const R *row = out->data + i * C;
        int      above = 0;
        if (y[i] < 0 || y[i] >= C) continue;
        for (int64_t c = 0; c < C; c++) above += !(row[c] < row[y[i]] || (row[c] == row[y[i]] && c >= y[i]));
        right += above < k;
    }
    return (double)right;
}

static double add_accuracy(const qt_tensor *out, const int32_t *y, const R *t)
{
    (void)t;
    return count_top(out, y, 1);
}

static double add_top5(const qt_tensor *out, const int32_t *y, const R *t)
{
    (void)t;
    return count_top(out, y, 5);
}

static double add_mae(const qt_tensor *out, const int32_t *y, const R *t)
{
    double sum = 0;
    (void)y;
    for (int64_t i = 0; i < out->n; i++) sum += fabs((double)out->data[i] - (double)t[i]);
    return sum * (double)out->dim[0] / (double)out->n;
}

static double add_square(const qt_tensor *out, const int32_t *y, const R *t)
{
    double sum = 0;
    (void)y;
    for (int64_t i = 0; i < out->n; i++) sum += ((double)out->data[i] - (double)t[i]) * ((double)out->data[i] - (double)t[i]);
    return sum * (double)out->dim[0] / (double)out->n;
}

static double mean(double sum, int64_t n) { return sum / (double)n; }
static double root_mean(double sum, int64_t n) { return sqrt(sum / (double)n); }

const qt_metric qt_metric_accuracy = {{"accuracy", "share of samples whose largest output is that of their class"}, true, add_accuracy, mean};
const qt_metric qt_metric_top5 = {{"top5", "share of samples whose class is among the five largest outputs"}, true, add_top5, mean};
const qt_metric qt_metric_mae = {{"mae", "mean absolute difference"}, false, add_mae, mean};
const qt_metric qt_metric_rmse = {{"rmse", "root of the mean squared difference"}, false, add_square, root_mean};
