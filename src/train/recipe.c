/* A recipe as one checked struct. Each section is read by whoever owns it (data sets, layers, quantizers, optimizers, phases), the rest
 * by the field tables below. Nothing stops at the first error: all sections are read, the model is built, the arms are tried, and only
 * then is the verdict returned. */
#include "train/train.h"
#include <string.h>

/* ---- what the sections hold ------------------------------------------------------------------------------------------------ */

typedef struct top {
    int64_t        recipe, seed;
    const char    *name, *doc, *paper;
    int            engine;
    const qt_yaml *tags, *vars, *model, *data, *loss, *metric, *quant, *memory, *regularize, *lora, *schedule, *optim, *lr_schedule, *train, *step, *init,
        *phases, *export, *arms, *sweep, *seeds, *claims, *scores;
} top;

static const qt_field top_fields[] = {
    QT_F_INT(top, recipe, "1", 0, 1e9, "version of the schema: 1"),
    QT_F_STR(top, name, "~", "name of the run directories (default: the file's)"),
    QT_F_STR(top, doc, "~", "one line for people"),
    QT_F_STR(top, paper, "~", "slug of the paper that the claims are about"),
    QT_F_TREE(top, tags, "~", "list of words that `reproduce all --tag` chooses by"),
    QT_F_TREE(top, vars, "~", "map of name: value, used as ${name}; a later one may use an earlier one"),
    QT_F_INT(top, seed, "1", 0, 9e15, "of initialisation, order of the data, dropout and augmentation"),
    QT_F_TREE(top, model, "~", "list of layers"),
    QT_F_TREE(top, data, "~", "data set, batch_size, splits; fallback: NAME is used when its files are missing"),
    QT_F_TREE(top, loss, "~", "a loss (default: cross_entropy for classes, mse otherwise)"),
    QT_F_TREE(top, metric, "~", "a metric to report beside loss and accuracy"),
    QT_F_TREE(top, quant, "~", "ordered list of rules; the last that matches wins"),
    QT_F_TREE(top, lora, "~", "adapters on a frozen model: rank, alpha, dropout, targets, variant, pool, freeze, train"),
    QT_F_TREE(top, memory, "~", "how layers keep what backward reads: {codec: NAME, match: layers, ...}"),
    QT_F_TREE(top, regularize, "~", "list of {use: NAME, match: layers, weight: W, ...}: terms of the loss that look at weights"),
    QT_F_ENUM(top, engine, "auto", "auto|float", "auto: integers where both operands are integers; float: simulate"),
    QT_F_TREE(top, schedule, "~", "when quantization begins and what freezes when"),
    QT_F_TREE(top, optim, "~", "an optimizer (default: adam)"),
    QT_F_TREE(top, lr_schedule, "~", "how the learning rate goes (default: constant)"),
    QT_F_TREE(top, train, "~", "length of the training, evaluation, saving"),
    QT_F_TREE(top, step, "~", "a stepper: how a batch becomes a step of the optimizer (default: plain)"),
    QT_F_TREE(top, init, "~", "where start values come from: arm, run or checkpoint"),
    QT_F_TREE(top, phases, "~", "list of phases (default: train)"),
    QT_F_TREE(top, export, "~", "list of {format: NAME, ...}: files of deployment to write when the run ends"),
    QT_F_TREE(top, arms, "~", "map of name -> {path: value}: variants that `reproduce` compares"),
    QT_F_TREE(top, sweep, "~", "axes of a grid of arms: map of axis -> {label: {path: value}}, or path -> [values]"),
    QT_F_TREE(top, seeds, "~", "list of the seeds that `reproduce` runs (default: the seed)"),
    QT_F_TREE(top, claims, "~", "list of what the arms must show"),
    QT_F_TREE(top, scores, "~", "{base, arms, tracks}: arms scored against one of them, in a table"),
    {NULL},
};

/* Keys of the schema that this version has no use for: refused rather than ignored. */
static const char *const later[] = {"distill"};
static const char        later_keys[] = "distill";

static const qt_field train_fields[] = {
    QT_F_INT(qt_train_cfg, steps, "0", 0, 1e12, "batches to train on; this or epochs"),
    QT_F_INT(qt_train_cfg, epochs, "0", 0, 1e9, "passes over the training data; this or steps"),
    QT_F_INT(qt_train_cfg, eval_every, "-1", -1, 1e12, "steps between evaluations; -1: an epoch, 0: at the end only"),
    QT_F_INT(qt_train_cfg, save_every, "0", 0, 1e12, "steps between checkpoints; 0: at each evaluation"),
    QT_F_INT(qt_train_cfg, keep, "0", 0, 1e6, "how many of the newest checkpoints to keep as ckpt/step-N.h5 beside last.h5 and best.h5"),
    QT_F_INT(qt_train_cfg, threads, "0", 0, 1024, "threads; 0: all cores. Changes no result"),
    QT_F_INT(qt_train_cfg, log_every, "50", 0, 1e12, "steps between step events of metrics.jsonl; 0: none"),
    QT_F_INT(qt_train_cfg, eval_batch_size, "0", 0, 1e6, "samples of one forward pass of an evaluation; 0: 256, of text as many as in training"),
    {NULL},
};

static const qt_field schedule_fields[] = {
    QT_F_SPAN(qt_schedule_cfg, fake_quant_after, "~", "training begins without quantization and gets it here"),
    QT_F_SPAN(qt_schedule_cfg, freeze_observers_at, "~", "ranges of activations stay as they are from here on"),
    QT_F_SPAN(qt_schedule_cfg, freeze_bn_at, "~", "batch norm uses its running statistics from here on"),
    QT_F_SPAN(qt_schedule_cfg, weight_decay_until, "~", "from here on there is no weight decay"),
    {NULL},
};

static const qt_field init_fields[] = {
    QT_F_STR(qt_init_cfg, arm, "~", "the arm of the same seed, which `reproduce` trains first"),
    QT_F_STR(qt_init_cfg, run, "~", "a run directory; its last checkpoint is used"),
    QT_F_STR(qt_init_cfg, checkpoint, "~", "a checkpoint"),
    {NULL},
};

/* Keeps the first error and goes on. */
static void gather(qt_err *e, qt_err got)
{
    if (*e == QT_OK) *e = got;
}

/* ---- reading the sections -------------------------------------------------------------------------------------------------- */

static qt_err wrong(const qt_yaml *y, const char *path, const char *expected)
{
    return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected %s, found %s", path, expected, qt_yaml_kind_name(y));
}

static const char *base_name(qt_arena *a, const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file, *dot = strrchr(name, '.');
    return dot && dot > name ? qt_arena_sprintf(a, "%.*s", (int)(dot - name), name) : name;
}

static qt_err read_later(const qt_yaml *tree)
{
    qt_err e = QT_OK;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (qt_yaml_get(tree, later[i])) e = qt_fail_at(QT_ERECIPE, qt_yaml_key_pos(tree, later[i]), "%s: not in this version of qtape", later[i]);
    return e;
}

static qt_err read_top(qt_recipe *r, top *t)
{
    qt_err e = qt_fields_read(r->tree, "", top_fields, later_keys, t);
    gather(&e, read_later(r->tree));
    if (t->recipe != 1)
        gather(&e, qt_fail_at(QT_ERECIPE, qt_yaml_get(r->tree, "recipe")->pos,
                              "recipe: version %lld of the schema is not known; this qtape reads version 1", (long long)t->recipe));
    r->name = t->name ? t->name : base_name(r->arena, r->file);
    if (!r->name) return QT_EMEM;
    if (!*r->name || *r->name == '.' || strchr(r->name, '/'))
        gather(&e, qt_fail_at(QT_ERECIPE, qt_yaml_get(r->tree, "name")->pos, "name: '%s' cannot be the name of a folder", r->name));
    r->doc = t->doc, r->paper = t->paper, r->seed = t->seed, r->engine_float = t->engine == 1;
    r->model = t->model, r->quant = t->quant, r->lora = t->lora, r->data = t->data, r->optim = t->optim, r->lr_schedule = t->lr_schedule;
    r->arms = t->arms, r->sweep = t->sweep, r->seeds = t->seeds, r->claims = t->claims, r->scores = t->scores, r->memory = t->memory, r->regularize = t->regularize;
    return e;
}

static qt_err read_length(qt_recipe *r, const qt_yaml *train)
{
    const qt_yaml *steps = qt_yaml_get(train, "steps"), *epochs = qt_yaml_get(train, "epochs");
    r->by_epochs = epochs != NULL;
    if (steps && epochs)
        return qt_fail_at(QT_ERECIPE, qt_yaml_key_pos(train, "epochs"),
                          "train.epochs: train.steps is given too; one of the two says how long to train (~train.steps takes it away)");
    if (!steps && !epochs && qt_recipe_trains(r))
        return qt_fail_at(QT_ERECIPE, train ? train->pos : r->tree->pos, "train: expected steps or epochs, found neither");
    return QT_OK;
}

static qt_err read_phases(qt_recipe *r, const qt_yaml *y)
{
    qt_err         e = QT_OK;
    qt_pos         none = {0};
    const qt_desc *d;
    char           path[32];
    if (!y) {
        r->phase[r->n_phases++].phase = &qt_phase_train;
        return QT_OK;
    }
    if (y->kind != QT_YAML_LIST || y->n > QT_MAX_PHASES) return wrong(y, "phases", "a list of at most 8 phases");
    for (int i = 0; i < y->n; i++) {
        snprintf(path, sizeof path, "phases[%d]", i);
        qt_err got = qt_desc_read(r->arena, &qt_phases, y->item[i], path, NULL, &d, &r->phase[r->n_phases].cfg);
        gather(&e, got);
        if (got != QT_OK) continue;
        for (int k = 0; k < r->n_phases; k++)
            if (d == &qt_phase_train.d && r->phase[k].phase == &qt_phase_train)
                gather(&e, qt_fail_at(QT_ERECIPE, y->item[i]->pos, "%s: train stands here twice", path));
        r->phase[r->n_phases].pos = y->item[i]->pos;
        r->phase[r->n_phases++].phase = (const qt_phase *)d;
    }
    if (!y->n) gather(&e, qt_fail_at(QT_ERECIPE, y->pos.file ? y->pos : none, "phases: expected at least one phase, found an empty list"));
    return e;
}

static qt_err read_export(qt_recipe *r, const qt_yaml *y, const char *path)
{
    const qt_yaml *format = qt_yaml_get(y, "format");
    const qt_desc *d;
    const char    *name;
    void          *cfg;
    if (!qt_yaml_str(format, &name)) return wrong(format ? format : y, path, "{format: NAME, ...}");
    if (!(d = qt_desc_find(&qt_exporters, name, format->pos))) return QT_ERECIPE;
    for (int i = 0; i < r->n_exports; i++)
        if ((const qt_desc *)r->export[i].exporter == d) return qt_fail_at(QT_ERECIPE, format->pos, "%s: format %s stands here twice", path, name);
    if (!(cfg = qt_arena_zalloc(r->arena, d->cfg_size))) return QT_EMEM;
    r->export[r->n_exports].exporter = (const qt_exporter *)d, r->export[r->n_exports].pos = y->pos, r->export[r->n_exports++].cfg = cfg;
    return qt_fields_read(y, path, d->fields, "format", cfg);
}

static qt_err read_exports(qt_recipe *r, const qt_yaml *y)
{
    qt_err e = QT_OK;
    char   path[32];
    if (!y) return QT_OK;
    if (y->kind != QT_YAML_LIST || y->n > QT_MAX_EXPORTS) return wrong(y, "export", "a list of at most 8 {format: NAME, ...}");
    for (int i = 0; i < y->n; i++) {
        snprintf(path, sizeof path, "export[%d]", i);
        gather(&e, read_export(r, y->item[i], path));
    }
    return e;
}

static qt_err read_init(qt_recipe *r, const qt_yaml *y)
{
    int n;
    if (!y) return QT_OK;
    QT_TRY(qt_fields_read(y, "init", init_fields, NULL, &r->init));
    n = (r->init.arm != NULL) + (r->init.run != NULL) + (r->init.checkpoint != NULL);
    if (n != 1) return qt_fail_at(QT_ERECIPE, y->pos, "init: expected one of arm, run and checkpoint, found %d", n);
    if (r->init.arm && r->arm && !strcmp(r->init.arm, r->arm))
        return qt_fail_at(QT_ERECIPE, y->pos, "init.arm: arm '%s' cannot begin with itself", r->arm);
    if (r->init.arm && r->arms && !qt_yaml_get(r->arms, r->init.arm)) {
        const char *near = r->arms->kind == QT_YAML_MAP ? qt_near(r->init.arm, r->arms->n, r->arms->key) : NULL;
        return qt_fail_at(QT_ERECIPE, qt_yaml_get(y, "arm")->pos, "init.arm: unknown arm '%s'%s%s%s", r->init.arm, near ? ", did you mean '" : "",
                          near ? near : "", near ? "'?" : "");
    }
    return QT_OK;
}

/* A list of words, or of integers from `least` on. */
static qt_err read_list(const qt_yaml *y, const char *path, bool words)
{
    qt_err      e = QT_OK;
    int64_t     v;
    const char *s;
    if (!y) return QT_OK;
    if (y->kind != QT_YAML_LIST || !y->n) return wrong(y, path, words ? "a list of words" : "a list of seeds");
    if (y->n > 64) return qt_fail_at(QT_ERECIPE, y->pos, "%s: expected at most 64, found %d", path, y->n);
    for (int i = 0; i < y->n; i++)
        if (words ? !qt_yaml_str(y->item[i], &s) : !qt_yaml_int(y->item[i], &v) || v < 0)
            e = qt_fail_at(QT_ERECIPE, y->item[i]->pos, "%s[%d]: expected %s, found %s", path, i, words ? "a word" : "an integer from 0 on",
                           y->item[i]->kind == QT_YAML_SCALAR ? y->item[i]->text : qt_yaml_kind_name(y->item[i]));
    return e;
}

static qt_err read_seeds(const qt_yaml *y)
{
    qt_err  e = read_list(y, "seeds", false);
    int64_t v, w;
    for (int i = 0; e == QT_OK && y && i < y->n; i++)
        for (int k = 0; k < i; k++)
            if (qt_yaml_int(y->item[i], &v) && qt_yaml_int(y->item[k], &w) && v == w)
                gather(&e, qt_fail_at(QT_ERECIPE, y->item[i]->pos, "seeds[%d]: seed %lld stands here twice", i, (long long)v));
    return e;
}

static qt_err read_fallback(qt_recipe *r)
{
    const qt_yaml *y = qt_yaml_get(r->data, "fallback"), *batch = qt_yaml_get(r->data, "batch_size");
    qt_yaml       *without, *map;
    if (!y) return QT_OK;
    if (!(without = qt_yaml_copy(r->arena, r->data))) return QT_EMEM;
    QT_TRY(qt_yaml_remove(r->arena, without, "fallback", y->pos));
    r->data = without;
    if (y->kind == QT_YAML_MAP) return r->fallback = y, QT_OK;
    if (y->kind != QT_YAML_SCALAR) return wrong(y, "data.fallback", "the name of a data set");
    if (!(map = qt_yaml_map(r->arena, y->pos))) return QT_EMEM;
    QT_TRY(qt_yaml_put(r->arena, map, "use", qt_yaml_copy(r->arena, y)));
    if (batch) QT_TRY(qt_yaml_put(r->arena, map, "batch_size", qt_yaml_copy(r->arena, batch)));
    r->fallback = map;
    return QT_OK;
}

static qt_err read_desc(qt_recipe *r, const qt_kind *k, const qt_yaml *y, const char *path, const qt_desc **d, void **cfg)
{
    return y ? qt_desc_read(r->arena, k, y, path, NULL, d, cfg) : QT_OK;
}

static qt_err read_stepper(qt_recipe *r, const qt_yaml *y)
{
    const qt_desc *d = &qt_stepper_plain.d;
    r->stepper = &qt_stepper_plain; /* after errors too */
    QT_TRY(read_desc(r, &qt_steppers, y, "step", &d, &r->stepper_cfg));
    r->stepper = (const qt_stepper *)d;
    if (y) r->stepper_pos = y->pos;
    return QT_OK;
}

static qt_err check_phases(const qt_recipe *r)
{
    qt_err e = QT_OK;
    for (int i = 0; i < r->n_phases; i++)
        if (r->phase[i].phase->check) gather(&e, r->phase[i].phase->check(r, i));
    for (int i = 0; r->lora && i < r->n_exports; i++)
        if (!r->export[i].exporter->adapters)
            gather(&e, qt_fail_at(QT_ERECIPE, r->export[i].pos,
                                  "export: format %s holds no adapters; merge them into a checkpoint (phases: {use: merge, checkpoint: true}), and "
                                  "export a recipe that begins with it", r->export[i].exporter->d.name));
    return e;
}

static qt_err read_sections(qt_recipe *r)
{
    top            t = {0};
    const qt_desc *loss = NULL, *metric = NULL;
    void          *metric_cfg;
    qt_err         e = read_top(r, &t);
    gather(&e, read_phases(r, t.phases));
    gather(&e, read_exports(r, t.export));
    gather(&e, qt_fields_read(t.train, "train", train_fields, NULL, &r->train));
    gather(&e, read_length(r, t.train));
    gather(&e, qt_fields_read(t.schedule, "schedule", schedule_fields, NULL, &r->schedule));
    gather(&e, read_stepper(r, t.step));
    gather(&e, read_init(r, t.init));
    gather(&e, read_list(t.tags, "tags", true));
    gather(&e, read_seeds(t.seeds));
    gather(&e, read_desc(r, &qt_losses, t.loss, "loss", &loss, &r->loss_cfg));
    gather(&e, read_desc(r, &qt_metrics, t.metric, "metric", &metric, &metric_cfg));
    r->loss = (const qt_loss *)loss, r->metric = (const qt_metric *)metric;
    gather(&e, read_fallback(r));
    gather(&e, check_phases(r));
    if (!r->model) gather(&e, qt_fail_at(QT_ERECIPE, r->tree->pos, "model: missing; a recipe needs a list of layers"));
    if (!r->data)
        gather(&e, qt_fail_at(QT_ERECIPE, r->tree->pos, "data: missing; a recipe needs a data set, as data: {use: digits, batch_size: 32}"));
    return e;
}

bool qt_recipe_trains(const qt_recipe *r)
{
    for (int i = 0; i < r->n_phases; i++)
        if (r->phase[i].phase == &qt_phase_train) return true;
    return false;
}

int qt_recipe_seeds(const qt_recipe *r, int64_t v[64])
{
    if (!r->seeds) return v[0] = r->seed, 1;
    for (int i = 0; i < r->seeds->n; i++) qt_yaml_int(r->seeds->item[i], &v[i]);
    return r->seeds->n;
}

qt_err qt_recipe_limit(const qt_recipe *r, int seeds, int64_t most)
{
    const qt_yaml *y = r->sweep ? r->sweep : r->arms ? r->arms : r->tree;
    int64_t        own[64], n = seeds ? seeds : qt_recipe_seeds(r, own), arms = r->arms ? r->arms->n : 1;
    if (arms * n <= most) return QT_OK;
    return qt_fail_at(QT_ERECIPE, y->pos, "%lld arms and %lld seed%s are %lld runs, more than %lld (--max-runs %lld allows them)", (long long)arms,
                      (long long)n, n > 1 ? "s" : "", (long long)(arms * n), (long long)most, (long long)(arms * n));
}

/* ---- the deep check -------------------------------------------------------------------------------------------------------- */

static qt_pos section_pos(const qt_recipe *r, const char *key)
{
    const qt_yaml *y = qt_yaml_get(r->tree, key);
    return y ? y->pos : r->tree->pos;
}

static qt_err check_target(const qt_recipe *r, const qt_data_info *info, const qt_model *m)
{
    int64_t n = 1;
    if (r->loss && r->loss->classes != (info->classes != 0))
        return qt_fail_at(QT_ERECIPE, section_pos(r, "loss"), "loss: %s wants %s as targets, and the data set gives %s", r->loss->d.name,
                          r->loss->classes ? "classes" : "numbers", info->classes ? "classes" : "numbers");
    if (r->metric && r->metric->classes != (info->classes != 0))
        return qt_fail_at(QT_ERECIPE, section_pos(r, "metric"), "metric: %s wants %s as targets, and the data set gives %s", r->metric->d.name,
                          r->metric->classes ? "classes" : "numbers", info->classes ? "classes" : "numbers");
    if (!m || info->classes || !info->target_n || !m->n) return QT_OK;
    for (int i = 0; i < m->out.rank; i++) n *= m->out.dim[i];
    if (n == info->target_n) return QT_OK;
    return qt_fail_at(QT_ESHAPE, m->m[m->n - 1].pos, "%s: the last layer gives %lld numbers, and the data set has targets of %lld",
                      m->m[m->n - 1].path, (long long)n, (long long)info->target_n);
}

/* Model, optimizer and (if they are right so far) claims over the shapes of a data section, as far as they are known without its files. */
static qt_err check_build(qt_recipe *r, const qt_yaml *section, bool claims)
{
    static const qt_data_info unknown;
    const qt_data_info       *info = &unknown;
    qt_data                  *data = NULL;
    qt_model                 *m = NULL;
    qt_optimizer             *o;
    const qt_desc            *d;
    void                     *cfg;
    qt_shape                  in = {0};
    qt_err                    e = QT_OK;
    qt_store                 *s = qt_store_new((uint64_t)r->seed);
    if (!s) return QT_EMEM;
    if (section) e = qt_data_read(r->arena, section, &data);
    if (data) info = qt_data_info_of(data); /* known even where something else in the section is wrong */
    if (info->known) in.rank = info->rank, in.ids = info->ids, memcpy(in.dim, info->dim, sizeof in.dim);
    if (r->model) gather(&e, qt_model_build(r->arena, s, r->model, r->quant, in, info->classes, &m));
    if (m && e == QT_OK) gather(&e, qt_lora_apply(r->arena, r->lora, m));
    if (m && info->known && e == QT_OK) gather(&e, qt_memory_build(r->arena, r->memory, m));
    if (m && info->known && e == QT_OK) gather(&e, qt_regularize_build(r->arena, r->regularize, m));
    if (m && info->known && e == QT_OK && r->stepper->make) gather(&e, r->stepper->make(r->arena, r->stepper_cfg, m, r->stepper_pos));
    for (int i = 0; m && info->known && e == QT_OK && i < r->n_exports; i++)
        if (r->export[i].exporter->check) gather(&e, r->export[i].exporter->check(r, m, r->export[i].cfg, r->export[i].pos));
    for (int i = 0; m && info->known && e == QT_OK && i < r->n_phases; i++)
        if (r->phase[i].phase->check_model) gather(&e, r->phase[i].phase->check_model(r->arena, r->phase[i].cfg, m));
    if (claims && m && info->known && e == QT_OK) gather(&e, qt_claims_check_sites(r, m, info->ids > 0));
    if (m && info->known && e == QT_OK) gather(&e, qt_optimizer_make(r->arena, s, r->optim, &o));
    else if (r->optim) gather(&e, qt_desc_read(r->arena, &qt_optims, r->optim, "optim", NULL, &d, &cfg));
    for (int i = 0; data && info->known && i < r->n_phases; i++)
        if (r->phase[i].phase->suits) gather(&e, r->phase[i].phase->suits(r->phase[i].cfg, info, r->phase[i].pos));
    if (data && info->known) gather(&e, check_target(r, info, e == QT_OK ? m : NULL));
    qt_store_free(s);
    return e;
}

/* Reads and checks everything but the other arms. After an error in an arm, an override or a variable the rest is read all the same; what
 * it then says about the same place is a consequence and left out. */
static qt_err load(qt_arena *a, const char *file, qt_sets sets, const char *arm, qt_recipe **out)
{
    qt_recipe *r = qt_arena_zalloc(a, sizeof *r);
    qt_lr      lr;
    qt_err     e, claims;
    char      *before = NULL;
    *out = NULL;
    if (!r) return QT_EMEM;
    *r = (qt_recipe){.arena = a, .file = file, .arm = arm, .sets = sets};
    e = qt_recipe_tree(a, file, sets, arm, &r->tree);
    if (!r->tree) return e;
    if (e != QT_OK) before = qt_error_take();
    gather(&e, read_sections(r));
    claims = qt_claims_check(r);
    gather(&e, claims);
    gather(&e, qt_scores_check(r));
    gather(&e, check_build(r, r->data, claims == QT_OK));
    if (r->fallback && e == QT_OK) e = check_build(r, r->fallback, false);
    if (r->lr_schedule) gather(&e, qt_lr_make(a, r->lr_schedule, &lr));
    if (before) qt_messages_merge(before, true, NULL);
    *out = r;
    return e;
}

static qt_err check_arm(qt_recipe *r, const char *arm)
{
    qt_recipe *other;
    char      *before = qt_error_take();
    qt_err     e = load(r->arena, r->file, r->sets, arm, &other);
    qt_messages_merge(before, false, arm);
    return e;
}

static qt_err check_arms(qt_recipe *r)
{
    qt_err e = QT_OK;
    if (!r->arms) return QT_OK;
    if (r->arms->kind != QT_YAML_MAP) return wrong(r->arms, "arms", "a map of name -> {path: value}");
    for (int i = 0; i < r->arms->n; i++) {
        const char *name = r->arms->key[i];
        if (!*name || *name == '.' || strchr(name, '/'))
            gather(&e, qt_fail_at(QT_ERECIPE, r->arms->key_pos[i], "arms: '%s' cannot be part of the name of a folder", name));
        else if (!r->arm || strcmp(r->arm, name)) gather(&e, check_arm(r, name));
    }
    return e;
}

qt_err qt_recipe_check(qt_recipe *r)
{
    qt_err e = QT_OK;
    if (r->checked) return QT_OK;
    if (!r->sets.n) gather(&e, check_arms(r));
    r->checked = e == QT_OK;
    return e;
}

qt_err qt_recipe_load(qt_arena *a, const char *file, int n_sets, const char *const *sets, const char *arm, qt_recipe **out)
{
    qt_recipe *r = NULL;
    char      *source;
    qt_err     e = load(a, file, (qt_sets){n_sets, sets}, arm, &r);
    if (r) gather(&e, qt_recipe_check(r));
    if (!r || e != QT_OK) return qt_messages_sort(), e;
    QT_TRY(qt_file_read(a, file, &source, &r->source_n));
    r->source = source;
    *out = r;
    return QT_OK;
}
