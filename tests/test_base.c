/* Errors, "did you mean", allocation that fails on demand, arenas, numbers in text, streams into memory. */
#include "base/err.h"
#include "base/files.h"
#include "base/mem.h"
#include "base/scan.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static int clear(void **state) { return (void)state, qt_error_clear(), 0; }

static void messages_gather(void **state)
{
    (void)state;
    assert_string_equal(qt_error_text(), "");
    assert_int_equal(qt_fail(QT_EIO, "a %d", 1), QT_EIO);
    assert_int_equal(qt_fail_at(QT_ERECIPE, (qt_pos){"f.yaml", 3, 14}, "b"), QT_ERECIPE);
    assert_int_equal(qt_fail_at(QT_EDATA, (qt_pos){"f.bin", 0, 0}, "c"), QT_EDATA);
    assert_int_equal(qt_fail_at(QT_EMEM, (qt_pos){0}, "d"), QT_EMEM);
    assert_int_equal(qt_error_count(), 4);
    assert_string_equal(qt_error_text(), "a 1\nf.yaml:3:14: b\nf.bin: c\nd");
    qt_error_clear();
    assert_int_equal(qt_error_count(), 0);
    assert_string_equal(qt_error_text(), "");
}

static void exit_codes(void **state)
{
    (void)state;
    assert_int_equal(qt_error_exit(QT_OK), 0);
    assert_int_equal(qt_error_exit(QT_EIO), 1);
    assert_int_equal(qt_error_exit(QT_EMEM), 1);
    assert_int_equal(qt_error_exit(QT_EDATA), 1);
    assert_int_equal(qt_error_exit(QT_EUSAGE), 2);
    assert_int_equal(qt_error_exit(QT_ERECIPE), 2);
    assert_int_equal(qt_error_exit(QT_ESHAPE), 2);
    assert_int_equal(qt_error_exit(QT_ECLAIM), 3);
    assert_int_equal(qt_error_exit(QT_EDIVERGED), 4);
    assert_int_equal(qt_error_exit(QT_ESTOPPED), 130);
}

static void long_messages_are_cut(void **state)
{
    char big[10000];
    (void)state;
    memset(big, 'x', sizeof big), big[sizeof big - 1] = 0;
    for (int i = 0; i < 20; i++) qt_fail(QT_EIO, "%s", big);
    assert_int_equal(qt_error_count(), 20);
    assert_true(strlen(qt_error_text()) < 20 * 4200);
}

static void the_list_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) qt_fail(QT_EIO, "%d", i);
    assert_int_equal(qt_error_count(), 100000);
    const char *last = strstr(qt_error_text(), "\n999\n");
    assert_non_null(last);
    assert_string_equal(last, "\n999\nfurther errors are left out");
    char *all = qt_error_take();
    qt_error_give(qt_strdup(all));
    assert_string_equal(qt_error_text(), all); /* whole, however long it is */
    qt_free(all);
}

static void *other_thread(void *arg)
{
    (void)arg;
    if (qt_error_count()) return NULL;
    qt_fail(QT_EIO, "from the thread");
    return qt_error_take();
}

static void threads_have_their_own(void **state)
{
    pthread_t t;
    void     *text;
    (void)state;
    qt_fail(QT_EIO, "mine");
    assert_int_equal(pthread_create(&t, NULL, other_thread, NULL), 0);
    pthread_join(t, &text);
    assert_non_null(text);
    assert_string_equal(qt_error_text(), "mine");
    qt_error_give(text);
    assert_string_equal(qt_error_text(), "mine\nfrom the thread");
}

static qt_err trying(int x)
{
    QT_CHECK(x > 0, QT_EUSAGE, "x is %d, must be positive", x);
    QT_TRY(x > 1 ? QT_OK : qt_fail(QT_EDATA, "one"));
    return QT_OK;
}

static void macros(void **state)
{
    (void)state;
    assert_int_equal(trying(0), QT_EUSAGE);
    assert_int_equal(trying(1), QT_EDATA);
    assert_int_equal(trying(2), QT_OK);
    assert_string_equal(qt_error_text(), "x is 0, must be positive\none");
}

static void near_names(void **state)
{
    static const char *const names[] = {"lsq", "lsq_plus", "num_bits", "format", "cosine"};
    (void)state;
    assert_string_equal(qt_near("formt", 5, names), "format");
    assert_string_equal(qt_near("lqs", 5, names), "lsq"); /* two letters swapped is one mistake */
    assert_string_equal(qt_near("numbits", 5, names), "num_bits");
    assert_string_equal(qt_near("cosin", 5, names), "cosine");
    assert_null(qt_near("elephant", 5, names));
    assert_null(qt_near("x", 0, names));
    assert_null(qt_near("a word far longer than any of the names, longer than sixty-three letters", 5, names));
}

static void allocation(void **state)
{
    int64_t before = qt_alloc_count();
    char   *p = qt_alloc(100), *s;
    int    *v = NULL, cap = 0;
    (void)state;
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0);
    qt_free(p);
    assert_non_null(p = qt_alloc(0));
    qt_free(p);
    qt_free(NULL);
    s = qt_sprintf("%s-%d", "a", 7);
    assert_string_equal(s, "a-7");
    qt_free(s);
    assert_int_equal(qt_grow(&v, &cap, 3, sizeof *v), QT_OK);
    assert_true(cap >= 3);
    v[2] = 5;
    assert_int_equal(qt_grow(&v, &cap, 1000, sizeof *v), QT_OK);
    assert_true(cap >= 1000 && v[2] == 5 && v[999] == 0);
    assert_true(qt_alloc_count() - before == 5);
    assert_int_equal(qt_grow(&v, &cap, 10, sizeof *v), QT_OK);
    assert_true(qt_alloc_count() - before == 5);
    qt_free(v);
}

static void allocation_fails_on_demand(void **state)
{
    void *p, *q;
    int   cap = 0;
    (void)state;
    qt_alloc_fail_at(2);
    assert_non_null(p = qt_alloc(1));
    assert_null(qt_alloc(77));
    assert_string_equal(qt_error_text(), "out of memory: 77 bytes asked for");
    assert_non_null(q = qt_alloc(1));
    qt_free(p), qt_free(q), p = NULL;
    qt_alloc_fail_at(1);
    assert_int_equal(qt_grow(&p, &cap, 1, 8), QT_EMEM);
    assert_true(p == NULL && cap == 0);
    qt_alloc_fail_at(1);
    assert_null(qt_strdup("x"));
    qt_alloc_fail_at(0);
}

static void too_much(void **state)
{
    qt_arena a = {0};
    char    *p = NULL;
    int      cap = 0;
    (void)state;
    assert_null(qt_alloc(SIZE_MAX));
    assert_null(qt_alloc(SIZE_MAX - 63));
    assert_null(qt_arena_alloc(&a, SIZE_MAX - 8));
    assert_null(qt_arena_alloc(&a, SIZE_MAX / 2));
    assert_int_equal(qt_error_count(), 4);
    assert_int_equal(qt_grow(&p, &cap, -1, 1), QT_EMEM);
    assert_int_equal(qt_grow(&p, &cap, INT32_MAX, (size_t)1 << 40), QT_EMEM);
    assert_null(p);
    assert_int_equal(cap, 0);
    qt_arena_free(&a);
}

static void numbers_in_text(void **state)
{
    static const struct {
        const char *text;
        int64_t     most, v;
        size_t      used; /* 0: none */
    } all[] = {{"0", 9, 0, 1}, {"12a", 99, 12, 2}, {"100", 99, 0, 0}, {"", 9, 0, 0}, {"-1", 9, 0, 0}, {" 1", 9, 0, 0}, {"007", 7, 7, 3},
               {"9223372036854775807", INT64_MAX, INT64_MAX, 19}, {"9223372036854775808", INT64_MAX, 0, 0}, {"99999999999999999999", INT64_MAX, 0, 0}};
    int64_t v, row, col;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char *s = all[i].text;
        assert_int_equal(qt_scan_number(&s, all[i].most, &v), all[i].used > 0);
        assert_int_equal(s - all[i].text, all[i].used);
        if (all[i].used) assert_int_equal(v, all[i].v);
    }
    assert_int_equal(qt_scan_place("a:b.yaml:12:3: text", 19, &row, &col), 8);
    assert_int_equal(row, 12), assert_int_equal(col, 3);
    assert_int_equal(qt_scan_place("no place:here: 1", 16, &row, &col), 0);
    assert_int_equal(qt_scan_place("said 'a:1:2: b'", 15, &row, &col), 0);
    assert_int_equal(qt_scan_place("a:1:99999999999: b", 18, &row, &col), 0);
}

/* /dev/full takes nothing, as memory that is out. */
static void streams(void **state)
{
    char  *text = NULL;
    size_t n;
    FILE  *f = open_memstream(&text, &n);
    (void)state;
    fputs("all of it", f);
    assert_int_equal(qt_stream_close(QT_OK, f, &text), QT_OK);
    assert_string_equal(text, "all of it");
    assert_non_null(f = fopen("/dev/full", "w"));
    fputs("lost", f);
    assert_int_equal(qt_stream_close(QT_OK, f, &text), QT_EMEM);
    assert_null(text);
    assert_string_equal(qt_error_text(), "out of memory");
    assert_non_null(f = fopen("/dev/full", "w"));
    fputs("lost", f);
    assert_int_equal(qt_stream_close(QT_EDATA, f, &text), QT_EDATA); /* what came first is told */
    assert_int_equal(qt_error_count(), 1);
}

static void arenas(void **state)
{
    qt_arena a = {0};
    int64_t  before;
    char    *first, *big, *s;
    (void)state;
    first = qt_arena_alloc(&a, 10);
    assert_int_equal((uintptr_t)first % 64, 0);
    big = qt_arena_alloc(&a, 5 << 20); /* larger than a block */
    assert_int_equal((uintptr_t)big % 64, 0);
    memset(big, 1, 5 << 20);
    s = qt_arena_sprintf(&a, "%s %d", "step", 3);
    assert_string_equal(s, "step 3");
    assert_string_equal(qt_arena_strdup(&a, s), s);
    for (int i = 0; i < 5000; i++) memset(qt_arena_alloc(&a, 1000), i, 1000);
    assert_string_equal(s, "step 3");
    before = qt_alloc_count();
    for (int round = 0; round < 3; round++) { /* what once fitted fits again */
        qt_arena_reset(&a);
        assert_ptr_equal(qt_arena_alloc(&a, 10), first);
        qt_arena_alloc(&a, 5 << 20);
        for (int i = 0; i < 5000; i++) qt_arena_alloc(&a, 1000);
    }
    assert_true(qt_alloc_count() == before);
    qt_arena_reset(&a);
    s = qt_arena_zalloc(&a, 5 << 20);
    for (int i = 0; i < 5 << 20; i += 4099) assert_int_equal(s[i], 0);
    qt_arena_free(&a);
    qt_alloc_fail_at(1);
    assert_null(qt_arena_alloc(&a, 10));
    qt_alloc_fail_at(0);
    assert_non_null(qt_arena_alloc(&a, 10));
    qt_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, clear, clear)
        T(messages_gather),
        T(exit_codes),
        T(long_messages_are_cut),
        T(the_list_ends),
        T(threads_have_their_own),
        T(macros),
        T(near_names),
        T(allocation),
        T(allocation_fails_on_demand),
        T(too_much),
        T(numbers_in_text),
        T(streams),
        T(arenas),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
