/* env.json: what a run was made with. Nothing in it is read back; it is for people who compare two runs. */
#include "kernels/igemm.h"
#include "train/train.h"
#include <cblas.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <yaml.h>
#include <zlib.h>

#ifndef QTAPE_GIT
#define QTAPE_GIT ""
#endif

/* Instruction sets that kernels are compiled for or choose by. */
static void cpu_flags(FILE *f)
{
#if defined(__x86_64__) && defined(__GNUC__)
    const char *sep = "";
    __builtin_cpu_init();
#define FLAG(name) \
    if (__builtin_cpu_supports(name)) fprintf(f, "%s\"%s\"", sep, name), sep = ", ";
    FLAG("sse4.2") FLAG("avx") FLAG("fma") FLAG("avx2") FLAG("avx512f") FLAG("avx512bw") FLAG("avx512vl") FLAG("avx512vnni")
#undef FLAG
#else
    (void)f;
#endif
}

static const char *cpu_name(char buf[static 256])
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(buf, 256, "unknown");
    for (char line[256], *s; f && fgets(line, sizeof line, f);)
        if (!strncmp(line, "model name", 10) && (s = strchr(line, ':'))) {
            s[strcspn(s, "\"\\\n")] = 0;
            snprintf(buf, 256, "%s", s + 1 + strspn(s + 1, " "));
            break;
        }
    if (f) fclose(f);
    return buf;
}

/* The instruction set that leaf loops run with; all give the same bits. */
static const char *clones(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("avx512f") ? "avx512f" : __builtin_cpu_supports("avx2") ? "avx2" : "sse2";
#else
    return "default";
#endif
}

qt_err qt_env_write(const qt_run *r, const char *file)
{
    char           *text = NULL, cpu[256];
    size_t          n = 0;
    unsigned        h[3];
    struct utsname  os;
    const qt_yaml  *use = qt_yaml_get(r->data_section, "use");
    FILE           *f = open_memstream(&text, &n);
    QT_CHECK(f, QT_EMEM, "%s: out of memory", file);
    uname(&os);
    H5get_libversion(&h[0], &h[1], &h[2]);
    fprintf(f, "{\"version\": \"%s\", \"git\": \"%s\", \"precision\": \"%s\",\n", qt_version(), QTAPE_GIT, sizeof(R) == 8 ? "double" : "float");
    fprintf(f, " \"system\": \"%s %s %s\", \"cpu\": \"%s\", \"cpu_flags\": [", os.sysname, os.release, os.machine, cpu_name(cpu));
    cpu_flags(f);
    fprintf(f, "],\n \"kernels\": {\"loops\": \"%s\", \"gemm\": \"openblas %s\", \"integers\": \"%s\"}, \"threads\": %d,\n", clones(),
            openblas_get_corename(), qt_igemm_name(qt_igemm_chosen()), qt_threads());
    fprintf(f, " \"libraries\": {\"openblas\": \"%s\", \"hdf5\": \"%u.%u.%u\", \"zlib\": \"%s\", \"libyaml\": \"%s\"},\n", openblas_get_config(),
            h[0], h[1], h[2], zlibVersion(), yaml_get_version_string());
    fprintf(f, " \"data\": \"%s\", \"fallback\": %s}\n", use && use->kind == QT_YAML_SCALAR ? use->text : "",
            r->data_section == r->recipe->fallback ? "true" : "false");
    qt_err e = qt_stream_close(QT_OK, f, &text);
    if (e == QT_OK) e = qt_file_write(file, text, n);
    free(text);
    return e;
}
