/* Patterns over paths ("fc1", "blk.0.conv1.weight"), the one way in which quant rules, optimizer groups and targets name things:
 * a shell glob over the whole path, in which * crosses dots and slashes, or "re:" and a POSIX extended expression over the whole path. */
#ifndef QT_BASE_MATCH_H
#define QT_BASE_MATCH_H
#include "base/err.h"
#include "base/yaml.h"

/* False too where the expression cannot be compiled: check it first. */
bool qt_match(const char *pattern, const char *path);
/* A `match` value: one pattern or a list of them. Errors (not a string, an empty list, a bad expression) at their positions;
 * where names the value in messages ("quant[1].match"). */
qt_err qt_match_check(const qt_yaml *patterns, const char *where);
/* True if one of the patterns matches. */
bool qt_match_any(const qt_yaml *patterns, const char *path);
#endif
