/* Genetic search on problems whose best list is known: a separable one with a budget, against an exact table; constraints that allow little
 * or nothing; the same stream, the same answer. */
#include "base/err.h"
#include "base/genetic.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GENES = 24, CHOICES = 7, BUDGET = 60 };

/* Gene i at choice c is worth gain[i][c] and costs c. */
typedef struct problem {
    double gain[GENES][CHOICES];
    int    choices[GENES], limit, at_least, evaluated;
} problem;

static int cost(const int *list)
{
    int sum = 0;
    for (int i = 0; i < GENES; i++) sum += list[i];
    return sum;
}

static bool valid(void *arg, const int *list)
{
    problem *p = arg;
    return cost(list) <= p->limit && cost(list) >= p->at_least;
}

/* One step down, or up, of a random gene until the cost is in bounds. */
static void repair(void *arg, qt_rng *r, int *list)
{
    problem *p = arg;
    for (int c = cost(list); c > p->limit || c < p->at_least;) {
        int i = (int)qt_rng_below(r, GENES), step = c > p->limit ? -1 : 1;
        if (list[i] + step >= 0 && list[i] + step < CHOICES) list[i] += step, c += step;
    }
}

static qt_err fitness(void *arg, int n, const int *lists, double *value)
{
    problem *p = arg;
    for (int k = 0; k < n; k++) {
        value[k] = 0;
        for (int i = 0; i < GENES; i++) value[k] += p->gain[i][lists[k * GENES + i]];
        assert_true(valid(p, lists + k * GENES));
    }
    p->evaluated += n;
    return QT_OK;
}

static problem problem_new(uint64_t seed)
{
    problem p = {.limit = BUDGET};
    qt_rng  r = qt_rng_at(seed, 1);
    for (int i = 0; i < GENES; i++) p.choices[i] = CHOICES;
    for (int i = 0; i < GENES; i++)
        for (int c = 1; c < CHOICES; c++) p.gain[i][c] = p.gain[i][c - 1] + qt_rng_uniform(&r) / c;
    return p;
}

/* The best by dynamic programming over the cost. */
static double optimum(const problem *p)
{
    double best[BUDGET + 1] = {0};
    for (int i = 0; i < GENES; i++)
        for (int b = BUDGET; b >= 0; b--) {
            double top = -1;
            for (int c = 0; c < CHOICES && c <= b; c++) top = fmax(top, best[b - c] + p->gain[i][c]);
            best[b] = top;
        }
    return best[BUDGET];
}

static qt_genetic search_of(problem *p)
{
    return (qt_genetic){GENES, p->choices, valid, repair, fitness, p, 100, 25, 50, 50, 300, 0.1};
}

static void test_optimum(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        problem    p = problem_new(seed);
        qt_genetic g = search_of(&p);
        qt_arena   a = {0};
        qt_rng     r = qt_rng_at(seed, 2);
        int        list[GENES];
        double     value, check;
        assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_OK);
        assert_true(valid(&p, list));
        fitness(&p, 1, list, &check);
        assert_true(value == check);
        assert_true(value >= 0.999 * optimum(&p) && value <= optimum(&p) + 1e-9);
        assert_true(p.evaluated <= 100 + 300 * 100 + 1);
        qt_arena_free(&a);
    }
}

/* Without a constraint the best list takes the best of each gene, and a search of no rounds gives the best of the first lists. */
static void test_unbound(void **state)
{
    (void)state;
    problem    p = problem_new(4);
    qt_genetic g = search_of(&p), none;
    qt_arena   a = {0};
    qt_rng     r = qt_rng_at(4, 2);
    int        list[GENES], first[GENES];
    double     value, least;
    p.limit = GENES * CHOICES;
    g.valid = NULL, g.repair = NULL;
    assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_OK);
    for (int i = 0; i < GENES; i++) assert_int_equal(list[i], CHOICES - 1);
    none = g, none.rounds = 0;
    assert_int_equal(qt_genetic_search(&a, &none, &r, first, &least), QT_OK);
    assert_true(least < value);
    qt_arena_free(&a);
}

static void test_constraint(void **state)
{
    (void)state;
    problem    p = problem_new(5);
    qt_genetic g = search_of(&p);
    qt_arena   a = {0};
    qt_rng     r = qt_rng_at(5, 2);
    int        list[GENES];
    double     value;
    p.limit = p.at_least = 3; /* 2925 lists of 7^24 */
    assert_int_equal(qt_genetic_draw(&g, &r, list), QT_OK);
    assert_int_equal(cost(list), 3);
    assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_OK);
    assert_int_equal(cost(list), 3);
    g.repair = NULL; /* chance alone finds none of them */
    assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_EUSAGE);
    assert_non_null(strstr(qt_error_text(), "constraint"));
    qt_error_clear();
    assert_int_equal(qt_genetic_draw(&g, &r, list), QT_EUSAGE);
    qt_error_clear();
    qt_arena_free(&a);
}

/* One list is all there is. */
static void test_single(void **state)
{
    (void)state;
    problem    p = problem_new(6);
    qt_genetic g = search_of(&p);
    qt_arena   a = {0};
    qt_rng     r = qt_rng_at(6, 2);
    int        list[GENES];
    double     value;
    for (int i = 0; i < GENES; i++) p.choices[i] = 1;
    g.rounds = 5;
    assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_OK);
    assert_true(value == 0 && cost(list) == 0);
    qt_arena_free(&a);
}

static qt_err broken(void *arg, int n, const int *lists, double *value)
{
    (void)arg, (void)n, (void)lists, (void)value;
    return qt_fail(QT_EIO, "no fitness today");
}

static void test_failure(void **state)
{
    (void)state;
    problem    p = problem_new(7);
    qt_genetic g = search_of(&p);
    qt_arena   a = {0};
    qt_rng     r = qt_rng_at(7, 2);
    int        list[GENES];
    double     value;
    g.fitness = broken;
    assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_EIO);
    qt_error_clear();
    qt_arena_free(&a);
}

static qt_err not_a_number(void *arg, int n, const int *lists, double *value)
{
    (void)arg, (void)lists;
    for (int i = 0; i < n; i++) value[i] = i % 2 ? NAN : -INFINITY;
    return QT_OK;
}

static void test_no_fitness(void **state)
{
    (void)state;
    problem    p = problem_new(7);
    qt_genetic g = search_of(&p);
    qt_arena   a = {0};
    qt_rng     r = qt_rng_at(7, 2);
    int        list[GENES];
    double     value;
    g.fitness = not_a_number;
    assert_int_equal(qt_genetic_search(&a, &g, &r, list, &value), QT_EDATA);
    assert_string_equal(qt_error_text(), "genetic search: no list has a fitness that is a number");
    qt_error_clear();
    qt_arena_free(&a);
}

static void test_same(void **state)
{
    (void)state;
    problem p = problem_new(8);
    int     list[2][GENES];
    double  value[2];
    for (int k = 0; k < 2; k++) {
        qt_genetic g = search_of(&p);
        qt_arena   a = {0};
        qt_rng     r = qt_rng_named(8, "search");
        g.rounds = 20;
        assert_int_equal(qt_genetic_search(&a, &g, &r, list[k], &value[k]), QT_OK);
        qt_arena_free(&a);
    }
    assert_memory_equal(list[0], list[1], sizeof list[0]);
    assert_true(value[0] == value[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_optimum), cmocka_unit_test(test_unbound),    cmocka_unit_test(test_constraint),
                                       cmocka_unit_test(test_single),  cmocka_unit_test(test_failure),    cmocka_unit_test(test_no_fitness),
                                       cmocka_unit_test(test_same)};
    return cmocka_run_group_tests_name("genetic", tests, NULL, NULL);
}
