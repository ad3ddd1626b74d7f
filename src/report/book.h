/* What a report is about: chapters (the root of a `reproduce`, or run directories that lie side by side), their arms, and the runs of each. All
 * that can be read is read; what is missing or damaged is a note and no error. */
#ifndef QT_REPORT_BOOK_H
#define QT_REPORT_BOOK_H
#include "base/yaml.h"
#include "report/series.h"

enum { QT_NOTES = 32 };
typedef struct qt_notes {
    int         n;
    const char *text[QT_NOTES];
} qt_notes;

typedef struct qt_trial { /* a run directory as it was found */
    const char    *dir;
    int64_t        seed;
    bool           done;
    qt_events         log;
    const qt_yaml *resolved, *env; /* NULL where they cannot be read */
} qt_trial;

typedef struct qt_arm {
    const char *name;
    bool        diverged;          /* results.json says so */
    int         n, cap;
    qt_trial   *trial;             /* by seed */
} qt_arm;

typedef struct qt_chapter {
    const char    *dir, *name;     /* of the recipe, or of the folder */
    const qt_yaml *results, *recipe; /* results.json and a recipe.yaml as given, or NULL */
    const char    *metric;         /* what runs are judged by: "accuracy", "perplexity" or "loss" */
    bool           root;           /* it is the root of a `reproduce` */
    int            n, cap;
    qt_arm        *arm;            /* in the order of results.json or recipe.yaml, then by name */
    qt_notes       notes;
} qt_chapter;

typedef struct qt_book {
    qt_arena    arena;
    int         n, cap;
    qt_chapter *chapter;
} qt_book;

/* QT_EIO if none of the folders holds anything of a run, with one message each; otherwise those that do. */
qt_err qt_book_open(qt_book *b, int n, const char *const *dir);
void   qt_book_free(qt_book *b);

/* A note, formatted; the last one of many says that there are more. */
void qt_note(qt_arena *a, qt_notes *n, const char *fmt, ...) QT_PRINTF(3, 4);
/* Takes the messages of this thread as one note, `what` (if not NULL) in front. */
void qt_note_errors(qt_arena *a, qt_notes *n, const char *what);
/* results.json of a folder, NULL and a note if it cannot be read, NULL alone if there is none. */
const qt_yaml *qt_results_read(qt_arena *a, const char *dir, qt_notes *n);
/* Text of a member of a map, or `otherwise`. */
const char *qt_text_of(const qt_yaml *map, const char *key, const char *otherwise);
/* A number, NaN if there is none. */
double qt_number_of(const qt_yaml *map, const char *key);

/* The metric of a run: of the final event, else of the last evaluation. NaN if there is none. */
double qt_trial_value(const qt_trial *t, const char *metric);
/* Values of the runs of an arm (at most 64), those that are finite; their number. */
int qt_arm_values(const qt_arm *a, const char *metric, double v[64]);
double qt_mean_of(int n, const double *v);
double qt_deviation_of(int n, const double *v); /* with n - 1 */
/* A value of a metric for people: "91.25 %", "1.234". */
const char *qt_metric_text(const char *metric, double v, char buf[static 32]);
#endif
