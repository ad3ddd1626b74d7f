/* Errors. A bug in qtape or its caller aborts (QT_ASSERT); user input and the world return a qt_err and leave a message in this
 * thread's list. Several messages may gather before one code is returned: a recipe reports all its errors in one pass. */
#ifndef QT_BASE_ERR_H
#define QT_BASE_ERR_H
#include "qtape.h"

/* A place in a file, 1-based. file NULL: no place known. */
typedef struct qt_pos {
    const char *file;
    int         line, col;
} qt_pos;

/* Append a message (one line, no newline at its end, said as "what: expected, found") and return code. */
qt_err qt_fail(qt_err code, const char *fmt, ...) QT_PRINTF(2, 3);
/* The same with "file:line:col: " in front. */
qt_err qt_fail_at(qt_err code, qt_pos pos, const char *fmt, ...) QT_PRINTF(3, 4);

int   qt_error_count(void);
/* Takes the list away from this thread (free with qt_free), to hand it to another: qt_error_give appends it there. */
char *qt_error_take(void);
void  qt_error_give(char *text);

/* "did you mean": the name nearest to word among n names, or NULL when none is near. */
const char *qt_near(const char *word, int n, const char *const *names);

#ifdef __clang_analyzer__ /* it cannot see in another file that the code comes back */
#define qt_fail(code, ...) (qt_fail(code, __VA_ARGS__), (code))
#define qt_fail_at(code, ...) (qt_fail_at(code, __VA_ARGS__), (code))
#endif

#define QT_TRY(call)                         \
    do {                                     \
        qt_err e_ = (call);                  \
        if (e_ != QT_OK) return e_;          \
    } while (0)
#define QT_FAIL(code, ...) return qt_fail(code, __VA_ARGS__)
#define QT_CHECK(cond, code, ...)                    \
    do {                                             \
        if (!(cond)) return qt_fail(code, __VA_ARGS__); \
    } while (0)
#define QT_ASSERT(cond) ((cond) ? (void)0 : qt_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void qt_assert_failed(const char *cond, const char *file, int line);
#endif
