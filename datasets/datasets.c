/* The table of data sets, made from datasets.def. */
#include "dataset.h"

static const qt_desc *const all[] = {
#define QT_D(name) &qt_dataset_##name.d,
#include "datasets.def"
#undef QT_D
    NULL};
const qt_kind qt_datasets = {"datasets", "dataset", "where samples come from", all};
