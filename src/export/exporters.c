/* The table of exporters, made from exporters.def. */
#include "export/export.h"

static const qt_desc *const exporters[] = {
#define QT_E(name) &qt_exporter_##name.d,
#include "export/exporters.def"
#undef QT_E
    NULL};

const qt_kind qt_exporters = {"exporters", "exporter", "file formats of deployment", exporters};
