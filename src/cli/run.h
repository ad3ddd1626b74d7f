/* What the commands that run something share. */
#ifndef QT_CLI_RUN_H
#define QT_CLI_RUN_H
#include "cli/command.h"
#include "train/train.h"

/* --quiet, --json, or a live line on a terminal. */
qt_err qt_arg_progress(const qt_command *c, const qt_args *a, qt_progress *p);
/* Trains what is left of a run and prints its result. */
qt_err qt_run_finish(const qt_command *c, const qt_args *a, qt_run *r);
/* The table, or with json one object, of an evaluation. */
void   qt_result_print(const char *split, const char *engine, const qt_result *r, bool json);
#endif
