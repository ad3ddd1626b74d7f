/* The program's `probe` command on golden vectors (golden/probe.txt, made by golden/probe.py with numpy alone), and on bad input. The
 * program is run as a user runs it: QTAPE_BIN names it. */
#include "base/h5.h"
#include "base/mem.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef qt_real R;

static char dir[64] = "/tmp/qtape-probe-XXXXXX", in_file[96], out_file[96], err_file[96];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return 1;
    snprintf(in_file, sizeof in_file, "%s/a.h5", dir);
    snprintf(out_file, sizeof out_file, "%s/b.h5", dir);
    snprintf(err_file, sizeof err_file, "%s/err", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(in_file), unlink(out_file), unlink(err_file);
    return rmdir(dir); /* fails if a probe left anything behind */
}

/* Exit code of `qtape probe ARGS`; what it said is in err_file. */
static int probe(const char *args)
{
    char        command[1024];
    const char *program = getenv("QTAPE_BIN");
    assert_non_null(program);
    snprintf(command, sizeof command, "'%s' probe %s 2> '%s'", program, args, err_file);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool said(const char *text)
{
    char  all[4096] = "";
    FILE *f = fopen(err_file, "r");
    if (f) all[fread(all, 1, sizeof all - 1, f)] = 0, fclose(f);
    if (!strstr(all, text)) print_message("expected '%s' in: %s\n", text, all);
    return strstr(all, text);
}

static bool exists(const char *file)
{
    struct stat s;
    return stat(file, &s) == 0;
}

/* ---- golden/probe.txt -------------------------------------------------------------------------------------------------------------- */

typedef struct set {
    char    name[32];
    int     rank;
    int64_t dim[8], n;
    double  tolerance;
    R       x[4096];
} set;

static void parse_set(char *line, bool out, set *s)
{
    char *save, *word = strtok_r(line, " ", &save);
    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", strtok_r(NULL, " ", &save));
    if (out) s->tolerance = strtod(strtok_r(NULL, " ", &save), NULL);
    s->n = 1;
    while ((word = strtok_r(NULL, " ", &save)) && strcmp(word, ":")) s->n *= s->dim[s->rank++] = strtol(word, NULL, 10);
    assert_in_range(s->n, 1, 4096);
    for (int64_t i = 0; i < s->n; i++) {
        uint32_t bits = (uint32_t)strtoul(strtok_r(NULL, " \n", &save), NULL, 16);
        float    v;
        memcpy(&v, &bits, sizeof v);
        s->x[i] = (R)v;
    }
}

/* Every number within the tolerance, relative to the largest of the data set or its own size; tolerance 0: the same number. */
static void compare(qt_h5 *f, const char *name, const set *want)
{
    static R got[4096];
    int      rank;
    int64_t  dim[8];
    double   top = 0;
    if (qt_h5_shape(f, want->name, &rank, dim)) fail_msg("%s: %s", name, qt_error_text());
    assert_int_equal(rank, want->rank);
    for (int i = 0; i < rank; i++) assert_int_equal(dim[i], want->dim[i]);
    assert_int_equal(qt_h5_read(f, want->name, want->n, got), QT_OK);
    for (int64_t i = 0; i < want->n; i++) top = fmax(top, fabs((double)want->x[i]));
    for (int64_t i = 0; i < want->n; i++)
        if (!(fabs((double)got[i] - (double)want->x[i]) <= want->tolerance * top))
            fail_msg("%s: %s[%lld] is %.9g, expected %.9g", name, want->name, (long long)i, (double)got[i], (double)want->x[i]);
}

static void test_golden(void **state)
{
    (void)state;
    static set s;
    static char line[1 << 17];
    char        name[64] = "", args[256] = "", command[768];
    int         cases = 0;
    qt_h5      *in = NULL, *out = NULL;
    FILE       *f = fopen("tests/golden/probe.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        bool is_out = !strncmp(line, "out ", 4);
        if (!strncmp(line, "case ", 5)) {
            if (out) assert_int_equal(qt_h5_close(out), QT_OK);
            out = NULL, cases++;
            sscanf(line, "case %63s", name);
            assert_int_equal(qt_h5_create(in_file, 0, &in), QT_OK);
        } else if (!strncmp(line, "args ", 5)) {
            snprintf(args, sizeof args, "%.255s", line + 5);
            args[strcspn(args, "\n")] = 0;
        } else if (!is_out) {
            parse_set(line, false, &s);
            assert_int_equal(qt_h5_write(in, s.name, s.rank, s.dim, s.x, true), QT_OK);
        } else {
            if (!out) {
                assert_int_equal(qt_h5_close(in), QT_OK);
                snprintf(command, sizeof command, "%s --in %s --out %s", args, in_file, out_file);
                if (probe(command) != 0) fail_msg("%s: failed: %d", name, said("nothing"));
                assert_int_equal(qt_h5_open(out_file, &out), QT_OK);
            }
            parse_set(line, true, &s);
            compare(out, name, &s);
        }
    }
    if (out) assert_int_equal(qt_h5_close(out), QT_OK);
    fclose(f);
    assert_true(cases > 40);
}

/* ---- bad input: one clear error, the right exit code, no file ---------------------------------------------------------------------------- */

static void write_x(const char *name, int rank, const int64_t *dim)
{
    R       x[64];
    int64_t n = 1;
    qt_h5  *f;
    for (int i = 0; i < rank; i++) n *= dim[i];
    for (int64_t i = 0; i < n; i++) x[i] = (R)(i - 3) / 4;
    assert_int_equal(qt_h5_create(in_file, 0, &f), QT_OK);
    assert_int_equal(qt_h5_write(f, name, rank, dim, x, true), QT_OK);
    assert_int_equal(qt_h5_close(f), QT_OK);
}

static void expect(const char *args, int code, const char *text)
{
    char command[512];
    unlink(out_file);
    snprintf(command, sizeof command, "%s --in %s --out %s", args, in_file, out_file);
    int got = probe(command);
    if (got != code) print_message("%s\n", args);
    assert_int_equal(got, code);
    assert_true(said(text));
    assert_false(exists(out_file));
}

static void test_bad_input(void **state)
{
    (void)state;
    write_x("x", 2, (int64_t[]){2, 6});
    expect("quant lsq nun_bits=4", 2, "did you mean 'num_bits'");
    expect("quant lsq num_bits=0", 2, "num_bits");
    expect("quant lsq num_bits=four", 2, "num_bits");
    expect("quant lsq num_bits=4 num_bits=5", 2, "twice");
    expect("quant lsq num_bits", 2, "key=value");
    expect("quant lqs", 2, "did you mean 'lsq'");
    expect("qaunt lsq", 2, "did you mean 'quant'");
    expect("layer linera", 2, "did you mean 'linear'");
    expect("layer add", 2, "two inputs");
    expect("quant uniform granularity=group group_size=4", 2, "short");
    expect("quant uniform granularity=channel axis=3", 2, "axis");
    expect("quant uniform symmetric=true num_bits=1", 2, "num_bits");
    expect("quant int range=100", 2, "range");
    expect("layer linear", 1, "weight");
    expect("loss cross_entropy", 1, "target");
    write_x("y", 2, (int64_t[]){2, 6});
    expect("quant lsq", 1, "'x'");
    assert_true(said(in_file));
    FILE *f = fopen(in_file, "w");
    fputs("this is no HDF5 file", f);
    fclose(f);
    expect("quant lsq", 1, in_file);
    unlink(in_file);
    expect("quant lsq", 1, in_file);
    assert_int_equal(probe("quant lsq --out /nowhere/b.h5"), 2);
    assert_true(said("--in"));
    write_x("x", 1, (int64_t[]){6});
    char command[256];
    snprintf(command, sizeof command, "quant lsq --in %s --out /nowhere/b.h5", in_file);
    assert_int_equal(probe(command), 1);
}

/* ---- tensors of the command line ------------------------------------------------------------------------------------------------------ */

/* What the program prints or says of such tensors. */
static void typed(const char *args, int code, const char *text)
{
    char command[512];
    snprintf(command, sizeof command, "%s > '%s'", args, out_file);
    assert_int_equal(probe(command), code);
    if (code == 0) snprintf(command, sizeof command, "cp '%s' '%s'", out_file, err_file), assert_int_equal(system(command), 0);
    assert_true(said(text));
}

static void test_typed(void **state)
{
    (void)state;
    typed("quant lsq num_bits=2 'x=[1, -0.25, -3]' 'scale=[0.5]' 'grad_y=[1, 2, 4]'", 0,
          "x                    1     -0.25        -3\n"
          "y                  0.5         0        -1\n"
          "grad_x               0         2         0\n"
          "grad_scale          -6\n"
          "codes                1         0        -2\n"
          "scale              0.5\n");
    typed("layer linear 'x=[1, 2]' 'weight=[[1, 2], [3, 4]]'", 0, "y                    5        11\n");
    typed("layer linear 'x=[1, 2]' 'weight=[[1, 2], [3, 4]]'", 0, "grad_weight          1         2\n                     1         2\n");
    typed("loss cross_entropy 'x=[[1, 1]]' 'target=[1]'", 0, "y             0.693147\n");
    typed("quant lsq 'x=[[1, 2], [3]]'", 2, "not of the same length");
    typed("quant lsq 'x=[[], [3]]'", 2, "not of the same length");
    typed("quant lsq 'x=[1, two]'", 2, "expected numbers in 'x'");
    typed("quant lsq 'x=[1, 2]' 'x=[1]'", 2, "twice");
    typed("quant lsq 'x=[1, 2]' 'alpha=[1]'", 2, "'alpha' is neither an option nor a tensor of 'lsq'");
    typed("quant lsq 'scale=[1]'", 2, "tensor 'x' is missing");
    typed("quant lsq 'x=[]'", 1, "empty");
    typed("quant lsq 'x=[1, 2'", 2, "x=[1, 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_typed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
