/* Reports, below the pages: metrics as series whatever the file holds, axes with round numbers, curves thinned to their extremes, and the picture
 * of every quantizer. */
#include "quants_util.h"
#include "report/html.h"
#include "report/series.h"
#include "report/svg.h"
#include "report/transfer.h"
#include <math.h>
#include <unistd.h>

/* ---- series ----------------------------------------------------------------------------------------------------------------------------- */

static qt_events read_text(qt_arena *a, const char *text, size_t n)
{
    char      file[] = "/tmp/qtape-series-XXXXXX";
    int       fd = mkstemp(file);
    qt_events l;
    assert_true(fd >= 0 && write(fd, text, n) == (ssize_t)n && !close(fd));
    assert_int_equal(qt_events_read(a, file, &l), QT_OK);
    unlink(file);
    return l;
}

static void test_series(void **state)
{
    static const char text[] =
        "{\"event\": \"step\", \"step\": 1, \"split\": \"train\", \"loss\": 2.5, \"accuracy\": null, \"lr\": 1e-3}\n"
        "{\"event\": \"step\", \"step\": 2, \"split\": \"train\", \"loss\": 1e999, \"lr\": 1e-3}\n"
        "\n"
        "{\"event\": \"quant\", \"step\": 2, \"path\": \"a \\\"b\\\"\", \"scale\": 0.5, \"octaves\": [1, [2, 3]], \"flag\": true}\n"
        "not an event\n"
        "{\"event\": \"eval\", \"loss\": 1}\n"
        "{\"event\": \"measure\", \"step\": 3, \"path\": \"trace\", \"fc1\": -4}\r\n"
        "{\"event\": \"step\", \"step\": 3, \"split\": \"train\", \"loss\": 1.5}\n"
        "{\"event\": \"step\", \"step\": 4, \"split\": \"tr";
    qt_arena         a = {0};
    qt_events        l = read_text(&a, text, sizeof text - 1);
    const qt_series *s = qt_events_find(&l, "step", "train", "loss");
    (void)state;
    assert_int_equal(l.lines, 9);
    assert_int_equal(l.bad, 4);
    assert_int_equal(l.first_bad, 3);
    assert_true(l.step == 3 && s && s->n == 2 && s->step[1] == 3 && s->value[0] == 2.5 && s->value[1] == 1.5);
    assert_null(qt_events_find(&l, "step", "train", "accuracy"));
    assert_true(qt_events_last(&l, "quant", "a \"b\"", "scale") == 0.5 && qt_events_last(&l, "measure", NULL, "fc1") == -4);
    assert_true(isnan(qt_events_last(&l, "eval", NULL, "loss")));
    qt_arena_free(&a);
}

/* Memory has an end, however many names a file has. */
static void test_names(void **state)
{
    enum { LINES = 1100, NUMBERS = 128, ROOM = LINES * (NUMBERS * 16 + 64) };
    qt_arena a = {0};
    char    *text = malloc(ROOM), *p = text;
    (void)state;
    for (int i = 0; i < LINES; i++) {
        p += sprintf(p, "{\"event\": \"x\", \"step\": 1");
        for (int k = 0; k < NUMBERS; k++) p += sprintf(p, ", \"%x\": 1", i * NUMBERS + k);
        p += sprintf(p, "}\n");
    }
    assert_true(p < text + ROOM);
    qt_events l = read_text(&a, text, (size_t)(p - text));
    assert_true(l.lines == LINES && l.bad == 0 && l.n == 1 << 17);
    assert_true(qt_events_last(&l, "x", "", "1ffff") == 1 && isnan(qt_events_last(&l, "x", "", "20000")));
    free(text);
    qt_arena_free(&a);
}

/* Cut at every length and with every byte changed, the reader comes to an end. */
static void test_damage(void **state)
{
    static const char text[] = "{\"event\": \"quant\", \"step\": 2, \"path\": \"a\\\"b\", \"scale\": [0.5, [1]], \"zero\": -1e3, \"on\": null}\n"
                               "{\"event\": \"step\", \"step\": 3, \"split\": \"train\", \"loss\": 1.5}\n";
    qt_arena a = {0};
    char     own[sizeof text];
    (void)state;
    for (size_t i = 0; i < sizeof text; i++) {
        assert_true(read_text(&a, text, i).lines <= 2);
        memcpy(own, text, sizeof text), own[i] = (char)(own[i] ^ 0x5a);
        assert_true(read_text(&a, own, sizeof text - 1).lines <= 3);
        qt_arena_reset(&a);
    }
    qt_arena_free(&a);
}

static void test_many(void **state)
{
    enum { SERIES = 3000, STEPS = 3 };
    char    *text = NULL, where[16];
    size_t   n;
    FILE    *f = open_memstream(&text, &n);
    qt_arena a = {0};
    (void)state;
    for (int k = 0; k < STEPS; k++)
        for (int i = 0; i < SERIES; i++) fprintf(f, "{\"event\": \"quant\", \"step\": %d, \"path\": \"w%d\", \"scale\": %d}\n", k, i, i + k);
    fclose(f);
    qt_events l = read_text(&a, text, n);
    assert_int_equal(l.n, SERIES);
    for (int i = 0; i < SERIES; i++) {
        snprintf(where, sizeof where, "w%d", i);
        assert_true(qt_events_last(&l, "quant", where, "scale") == i + STEPS - 1);
    }
    free(text);
    qt_arena_free(&a);
}

/* ---- plots ------------------------------------------------------------------------------------------------------------------------------ */

static void check_axis(qt_axis axis, double lo, double hi, const char *want)
{
    double tick[QT_TICKS];
    char   text[32], all[400] = "";
    qt_axis_cover(&axis, 2, (double[]){lo, hi});
    qt_axis_pad(&axis);
    int n = qt_axis_ticks(&axis, 6, tick);
    assert_true(axis.lo < axis.hi && axis.lo <= lo && axis.hi >= hi && n >= 2 && n <= 7);
    for (int i = 0; i < n; i++) {
        qt_axis_text(&axis, tick[i], tick[1] - tick[0], text);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", text);
    }
    assert_string_equal(all, want);
}

static void test_axes(void **state)
{
    (void)state;
    check_axis((qt_axis){0}, 0, 1, "0, 0.2, 0.4, 0.6, 0.8, 1.0");
    check_axis((qt_axis){0}, -0.3, 2.6, "0, 1, 2");
    check_axis((qt_axis){0}, 0, 100000, "0, 20k, 40k, 60k, 80k, 100k");
    check_axis((qt_axis){0}, 5, 5, "4.6, 4.8, 5.0, 5.2, 5.4");
    check_axis((qt_axis){0}, 0, 0, "0, 0.2, 0.4, 0.6, 0.8, 1.0");
    check_axis((qt_axis){.unit = QT_PERCENT}, 0.86, 0.93, "86 %, 88 %, 90 %, 92 %");
    check_axis((qt_axis){.unit = QT_BYTES}, 900, 4100, "1 kB, 2 kB, 3 kB, 4 kB");
    check_axis((qt_axis){.log = true}, 0.01, 100, "0.01, 0.1, 1, 10, 100");
    check_axis((qt_axis){.log = true}, 2, 30, "2, 5, 10, 20");
    check_axis((qt_axis){.log = true}, 2, 4, "2, 2.5, 3, 3.5, 4");
}

/* Of a hundred thousand points the highest and the lowest are drawn, and not more than four a column. */
static void test_thinning(void **state)
{
    enum { MANY = 100000 };
    double *x = qt_alloc(MANY * sizeof *x), *y = qt_alloc(MANY * sizeof *y);
    char   *text = NULL, high[32], low[32];
    size_t  n, points = 0;
    FILE   *f = open_memstream(&text, &n);
    qt_plot p = {0};
    (void)state;
    for (int i = 0; i < MANY; i++) x[i] = i, y[i] = sin(0.01 * i) + (i == 33333 ? 50 : i == 66666 ? -50 : 0);
    y[500] = NAN;
    qt_axis_cover(&p.x, MANY, x), qt_axis_cover(&p.y, MANY, y);
    qt_plot_begin(&p, f, "a & b");
    qt_plot_line(&p, MANY, x, y, "line");
    qt_plot_end(&p);
    fclose(f);
    snprintf(high, sizeof high, " %.1f", qt_plot_y(&p, y[33333])), snprintf(low, sizeof low, " %.1f", qt_plot_y(&p, y[66666]));
    const char *path = strstr(text, "<path");
    assert_non_null(path);
    for (const char *s = path; *s; s++) points += *s == 'L' || *s == 'M';
    assert_true(points <= 4 * 421 && points > 400);
    assert_non_null(strstr(path, high));
    assert_non_null(strstr(path, low));
    assert_non_null(strstr(text, "a &amp; b"));
    assert_null(strstr(text, "nan"));
    free(text), qt_free(x), qt_free(y);
}

static void test_labels(void **state)
{
    char   *text = NULL;
    size_t  n;
    FILE   *f = open_memstream(&text, &n);
    qt_plot p = {.right = 6, .y = {.covered = true, .hi = 1}};
    double  last = -100, y;
    int     count = 0;
    (void)state;
    qt_plot_begin(&p, f, "");
    for (int i = 0; i < 14; i++) qt_plot_label(&p, 0.5, i, i == 3 ? "grö\u00dfer als Platz ist" : "abc");
    qt_plot_end(&p);
    fclose(f);
    assert_non_null(strstr(text, ">grö\u00dfe\u2026<"));
    for (const char *s = text; (s = strstr(s, "class=\"label")); s++, count++) {
        const char *at = s;
        while (strncmp(at, " y=\"", 4)) at--;
        y = strtod(at + 4, NULL);
        assert_true(y >= last + 12.5 && y < p.height + 5);
        last = y;
    }
    assert_int_equal(count, QT_PLOT_LABELS);
    free(text);
}

static void test_text(void **state)
{
    char   buf[32], *text = NULL;
    size_t n;
    FILE  *f = open_memstream(&text, &n);
    (void)state;
    qt_html_text(f, "<a b=\"c\"> & \xff\x01 \u00e4");
    fclose(f);
    assert_string_equal(text, "&lt;a b=&quot;c&quot;&gt; &amp; \ufffd\ufffd \u00e4");
    free(text);
    assert_string_equal(qt_si(999, buf), "999");
    assert_string_equal(qt_si(9995, buf), "9.99k");
    assert_string_equal(qt_si(1234567, buf), "1.23M");
    assert_string_equal(qt_si_bytes(0, buf), "0 B");
    assert_string_equal(qt_si_bytes(347000, buf), "347 kB");
}

/* ---- transfer functions ------------------------------------------------------------------------------------------------------------------ */

static void run_transfer(qt_arena *a, const char *spec, qt_role role, qt_transfer *t)
{
    qt_yaml *y;
    assert_int_equal(qt_yaml_parse(a, spec, strlen(spec), "spec", &y), QT_OK);
    if (qt_transfer_run(a, y, role, t) != QT_OK) fail_msg("%s: %s", spec, qt_error_text());
}

static int stars(const char *line)
{
    int n = 0;
    for (; *line && *line != '\n'; line++) n += *line == '*';
    return n;
}

/* Each configuration of each quantizer: finite, not falling from end to end, and one star in each column of both pictures. */
static void test_all(void **state)
{
    (void)state;
    FOR_CONFIGS(i)
    {
        qt_arena    a = {0};
        qt_transfer t;
        char       *text = NULL;
        size_t      n;
        int         count = 0;
        run_transfer(&a, configs[i].spec, configs[i].role, &t);
        for (int k = 0; k < QT_TRANSFER; k++) {
            assert_true(fabs(t.x[k] - (6.0 * k / (QT_TRANSFER - 1) - 3)) < 1e-6);
            if (!isfinite(t.y[k]) || fabs(t.y[k]) > 6 || !isfinite(t.slope[k])) fail_msg("%s: q(%g) = %g, %g", configs[i].spec, t.x[k], t.y[k], t.slope[k]);
        }
        assert_true(t.y[QT_TRANSFER - 1] >= t.y[0]);
        FILE *f = open_memstream(&text, &n);
        qt_transfer_print(f, &t);
        fclose(f);
        for (const char *s = strchr(text, '|'); s; s = strchr(s + 1, '|')) count += stars(s);
        assert_int_equal(count, 2 * QT_TRANSFER);
        free(text), qt_arena_free(&a);
    }
}

/* LSQ with 3 bits: eight levels a step apart, slope 1 within and 0 beyond. */
static void test_lsq(void **state)
{
    qt_arena    a = {0};
    qt_transfer t;
    double      level[8], step;
    int         n = 0;
    (void)state;
    run_transfer(&a, "{use: lsq, num_bits: 3}", QT_ROLE_WEIGHT, &t);
    for (int k = 0; k < QT_TRANSFER; k++)
        if (!n || t.y[k] != level[n - 1]) assert_true(n < 8), level[n++] = t.y[k];
    assert_true(n >= 7);
    step = level[1] - level[0];
    for (int k = 1; k < n; k++) assert_true(fabs(level[k] - level[k - 1] - step) < 1e-5);
    for (int k = 0; k < QT_TRANSFER; k++) assert_true(t.slope[k] == (t.x[k] / step > -4 && t.x[k] / step < 3));
    qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_series), cmocka_unit_test(test_names), cmocka_unit_test(test_damage), cmocka_unit_test(test_many), cmocka_unit_test(test_axes), cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_labels), cmocka_unit_test(test_text),   cmocka_unit_test(test_all),  cmocka_unit_test(test_lsq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
