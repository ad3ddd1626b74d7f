/* Two things that people write in recipes inside {...} and that YAML's flow style does not allow: paths with an index as keys,
 * {quant[1].weights.num_bits: 4}, and a tag right before a bracket, {quant: !unset}. The text is mended before libyaml sees it: the
 * key gets quotes, the tag a space. Columns are mapped back, so that messages speak of the text as written. */
#ifndef QT_BASE_YAML_FLOW_H
#define QT_BASE_YAML_FLOW_H
#include "base/mem.h"

typedef struct qt_mended {
    char *text;
    size_t n;
    int    n_added, cap;
    struct qt_added { int line, col; } *added; /* characters put in, 1-based in the mended text, in order */
} qt_mended;

qt_err qt_yaml_mend(qt_arena *a, const char *text, size_t n, qt_mended *out);
/* Column in the text as written of a place in the mended text. */
int    qt_mended_col(const qt_mended *m, int line, int col);
#endif
