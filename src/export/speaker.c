/* What text can be generated from: see speaker.h. */
#include "export/speaker.h"

static qt_err by_engine(qt_speaker *s, qt_engine *e, const char *name)
{
    s->engine = e, s->model = e->model, s->tape = e->tape, s->integers = true;
    QT_CHECK(e->model->in.ids, QT_EUSAGE, "%s: is no model of text: its input is numbers", name);
    return qt_spelling_open(qt_yaml_get(e->recipe, "data"), &s->spelling);
}

static qt_err load_best(qt_run *r)
{
    const char *file = qt_arena_sprintf(&r->arena, "%s/ckpt/best.h5", r->dir);
    if (!file) return QT_EMEM;
    QT_CHECK(qt_file_exists(file), QT_EUSAGE, "%s: is not there; a run keeps its best checkpoint where train.eval_every evaluates it on the way",
             file);
    QT_TRY(qt_ckpt_load(r, file));
    qt_run_schedule(r, r->step > 0 ? r->step - 1 : 0);
    return QT_OK;
}

qt_err qt_speaker_of_run(const char *dir, bool best, bool integers, qt_speaker *s)
{
    qt_engine *e;
    *s = (qt_speaker){0};
    QT_TRY(qt_run_resume(dir, QT_PROGRESS_QUIET, &s->run));
    QT_CHECK(qt_run_is_text(s->run), QT_EUSAGE, "%s: is no model of text: its input is numbers", dir);
    if (best) QT_TRY(load_best(s->run));
    if (integers) {
        QT_TRY(qt_engine_of_run(s->run, &e));
        return by_engine(s, e, dir);
    }
    qt_run_swap_average(s->run);
    s->model = s->run->model, s->tape = s->run->tape;
    return qt_spelling_open(s->run->data_section, &s->spelling);
}

qt_err qt_speaker_of_file(const char *file, qt_speaker *s)
{
    qt_engine *e;
    *s = (qt_speaker){0};
    QT_TRY(qt_engine_load(file, &e));
    return by_engine(s, e, file);
}

void qt_speaker_close(qt_speaker *s)
{
    qt_spelling_close(&s->spelling);
    qt_engine_free(s->engine);
    qt_run_free(s->run);
    *s = (qt_speaker){0};
}
