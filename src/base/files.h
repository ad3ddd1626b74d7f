/* Files that are whole or not there, and files as memory. */
#ifndef QT_BASE_FILES_H
#define QT_BASE_FILES_H
#include "base/err.h"
#include "base/mem.h"

qt_err qt_file_read(qt_arena *a, const char *file, char **text, size_t *n);
qt_err qt_file_write(const char *file, const char *text, size_t n); /* temporary name, fsync, rename, fsync of the folder */
qt_err qt_file_commit(const char *part, const char *file);          /* the same for a temporary file that is written already */
qt_err qt_folder_make(const char *dir);                             /* with its parents */
bool   qt_file_exists(const char *file);
/* Closes a stream of open_memstream to *text: e, or if that is QT_OK whether all of what was written is there. If it is not, *text is NULL. */
qt_err qt_stream_close(qt_err e, FILE *f, char **text);

/* A file as bytes that can be read, mapped and not copied. An empty file has n = 0 and a valid pointer. */
typedef struct qt_map {
    const uint8_t *p;
    size_t         n;
} qt_map;
qt_err qt_file_map(const char *file, qt_map *m);
void   qt_file_unmap(qt_map *m); /* sets m to nothing; nothing may be unmapped again */
#endif
