/* A recipe: YAML, fields, model, rules, optimizer, arms, claims and patterns. */
#include "fuzz.h"
#include "train/train.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_arena   a = {0};
    qt_recipe *r;
    (void)data, (void)n;
    qt_err e = qt_recipe_load(&a, file, 0, NULL, NULL, &r);
    qt_arena_free(&a);
    return e;
}
