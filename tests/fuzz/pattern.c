/* Patterns over paths: the first line is the pattern, the rest is the path. */
#include "base/match.h"
#include "fuzz.h"

qt_err fuzz_one(const char *file, const uint8_t *data, size_t n)
{
    qt_arena a = {0};
    char     text[4096];
    (void)file;
    snprintf(text, sizeof text, "%.*s", (int)(n < 4000 ? n : 4000), (const char *)data);
    char *line = strchr(text, '\n');
    if (line) *line++ = 0;
    qt_yaml *y = qt_yaml_scalar(&a, text, (qt_pos){"p", 1, 1});
    qt_err e = y ? qt_match_check(y, "match") : QT_EMEM;
    if (e == QT_OK) qt_match(text, line ? line : "blk.0.conv1");
    qt_arena_free(&a);
    return e;
}
