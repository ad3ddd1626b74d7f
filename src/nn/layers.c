/* The tables of layers, families of models, losses and metrics, made from layers.def. */
#include "nn/nn.h"

#define QT_ARCH(name)
#define QT_LOSS(name)
#define QT_METRIC(name)
static const qt_desc *const layers[] = {
#define QT_L(name) &qt_layer_##name.d,
#include "nn/layers.def"
#undef QT_ARCH
#undef QT_L
#undef QT_LOSS
#undef QT_METRIC
    NULL};

#define QT_L(name)
#define QT_LOSS(name)
#define QT_METRIC(name)
static const qt_desc *const archs[] = {
#define QT_ARCH(name) &qt_arch_##name.d,
#include "nn/layers.def"
#undef QT_ARCH
#undef QT_LOSS
#undef QT_METRIC
    NULL};

#define QT_ARCH(name)
#define QT_METRIC(name)
static const qt_desc *const losses[] = {
#define QT_LOSS(name) &qt_loss_##name.d,
#include "nn/layers.def"
#undef QT_LOSS
#undef QT_METRIC
    NULL};

#define QT_LOSS(name)
static const qt_desc *const metrics[] = {
#define QT_METRIC(name) &qt_metric_##name.d,
#include "nn/layers.def"
    NULL};

const qt_kind qt_layers = {"layers", "layer", "what a model is built of", layers};
const qt_kind qt_archs = {"archs", "arch", "families of models, each a list of layers", archs};
const qt_kind qt_losses = {"losses", "loss", "what training makes small", losses};
const qt_kind qt_metrics = {"metrics", "metric", "what evaluation reports", metrics};
