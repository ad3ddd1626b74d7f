/* What the two kinds of claims share: comparisons (claims.c) and fronts (front.c). */
#ifndef QT_TRAIN_CLAIMS_H
#define QT_TRAIN_CLAIMS_H
#include "train/train.h"

/* QT_ERECIPE, with path.key in the message, at the place given or that of map[key]. */
qt_err qt_claim_check_arm(const qt_recipe *r, qt_pos at, const char *path, const char *key, const char *arm);
qt_err qt_claim_check_metric(const qt_recipe *r, const qt_yaml *map, const char *path, const char *key, const char *metric);
/* "91.20 %" of an accuracy, otherwise the number. */
void   qt_claim_number(char buf[static 48], const char *metric, double v);

/* Claims {say, front, on, off}. */
qt_err qt_front_check(const qt_recipe *r, const qt_yaml *claim, const char *path);
qt_err qt_front_judge(const qt_recipe *r, const qt_yaml *claim, qt_lookup lookup, void *arg, qt_verdict *v);
#endif
