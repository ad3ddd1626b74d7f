/* metrics.jsonl as claims and reports read it. */
#include "fuzz.h"
#include "train/train.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_arena       a = {0};
    const qt_yaml *y;
    double         v;
    char           dir[256], path[300];
    (void)data, (void)n;
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(file, '/') - file), file);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    if (rename(file, path)) return qt_fail(QT_EIO, "%s: cannot rename", file);
    qt_err e = qt_metrics_last(&a, dir, "final", NULL, &y);
    if (e == QT_OK) e = qt_metrics_last(&a, dir, "quant", "fc1.weight", &y);
    if (e == QT_OK) e = qt_metrics_train_loss(&a, dir, &v);
    if (e == QT_OK) e = qt_metrics_first_loss(&a, dir, &v);
    qt_arena_free(&a);
    return e;
}
