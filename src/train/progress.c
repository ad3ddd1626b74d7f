/* What a run tells while it runs: a live line on a terminal, a plain line every few seconds elsewhere, and log.txt. */
#include "train/train.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LIVE_PERIOD_MS = 200, PLAIN_PERIOD_MS = 10000 };

double qt_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool speaks(const qt_run *r) { return r->progress == QT_PROGRESS_LINES || r->progress == QT_PROGRESS_LIVE; }

void qt_progress_end(qt_run *r)
{
    if (r->live) fputs("\r\033[K", stderr);
    r->live = false;
}

void qt_run_log(qt_run *r, const char *fmt, ...)
{
    char    text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (r->log) fprintf(r->log, "%s\n", text), fflush(r->log);
    if (!speaks(r)) return;
    qt_progress_end(r);
    fprintf(stderr, "%s\n", text);
}

static void eta(char buf[32], double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600) snprintf(buf, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60) snprintf(buf, 32, "%ldm%02lds", s / 60, s % 60);
    else snprintf(buf, 32, "%lds", s);
}

/* The live line must not be longer than the terminal is wide, or it would not be overwritten. */
static int terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col - 1 : 79;
}

void qt_progress_step(qt_run *r, double loss, const double *accuracy, double lr, double items_per_s)
{
    double now = qt_clock(), period = r->progress == QT_PROGRESS_LIVE ? LIVE_PERIOD_MS : PLAIN_PERIOD_MS;
    double left = items_per_s > 0 ? (double)(r->steps - r->step) * (double)qt_run_items(r) / items_per_s : 0;
    bool   text_data = qt_run_is_text(r);
    char   text[256], acc[32] = "", until[32];
    if (!speaks(r) || (r->shown > 0 && 1e3 * (now - r->shown) < period && r->step != r->steps)) return;
    r->shown = now;
    if (accuracy) snprintf(acc, sizeof acc, "  acc %5.1f %%", 100 * *accuracy);
    if (text_data) snprintf(acc, sizeof acc, "  ppl %.4g", exp(loss));
    eta(until, left);
    snprintf(text, sizeof text, "%s  step %lld/%lld  loss %.4f%s  lr %.3g  %.0f %s/s  ETA %s", r->arm, (long long)r->step, (long long)r->steps,
             loss, acc, lr, items_per_s, text_data ? "tokens" : "samples", until);
    if (r->progress == QT_PROGRESS_LIVE) fprintf(stderr, "\r\033[K%.*s", terminal_width(), text), r->live = true;
    else fprintf(stderr, "%s\n", text);
    fflush(stderr);
}
