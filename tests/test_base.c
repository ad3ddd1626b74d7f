/* Errors, "did you mean", allocation that fails on demand, arenas. */
#include "base/err.h"
#include "base/mem.h"
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
        T(threads_have_their_own),
        T(macros),
        T(near_names),
        T(allocation),
        T(allocation_fails_on_demand),
        T(arenas),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
