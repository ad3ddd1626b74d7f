/* The model of a run directory with the values of a checkpoint, for looking at: built without data where their shape is known without them. */
#ifndef QT_REPORT_NET_H
#define QT_REPORT_NET_H
#include "train/train.h"

typedef struct qt_net {
    qt_arena   arena;
    qt_recipe *recipe;
    qt_store  *store;
    qt_model  *model;
} qt_net;

/* Errors: QT_EDATA and others with a message. Runs with adapters are refused, for their checkpoints hold no base. */
qt_err qt_net_open(qt_net *n, const char *dir);
void   qt_net_close(qt_net *n);
#endif
