/* What data sets need of the file system: reading plain or gzip files, finding and fetching packages. */
#ifndef QT_DATASETS_FILES_H
#define QT_DATASETS_FILES_H
#include "base/err.h"
#include "base/mem.h"

/* The bytes of a file, unpacked if it is gzip, with a 0 after them (free with qt_free). QT_EDATA when damaged or longer than max. */
qt_err qt_unpacked_read(const char *file, size_t max, char **bytes, size_t *n);
/* CRC-32 of what qt_unpacked_read would give, without holding it. */
qt_err qt_unpacked_crc(const char *file, uint32_t *crc);
bool   qt_is_file(const char *file);
bool   qt_is_folder(const char *folder);
/* Runs a program found in PATH, in `folder` (NULL: here), its stdout joined to stderr. QT_EIO with the command line if it fails. */
qt_err qt_run_program(const char *folder, const char *const argv[]);
/* Calls unpack with the path of a fresh folder below the data folder, which is removed afterwards. */
qt_err qt_in_fetch_folder(const char *name, qt_err (*unpack)(const char *folder, const void *arg), const void *arg);
/* Debian packages by name, NULL-terminated: installed by root; unpacked below a folder, as anybody. */
qt_err qt_apt_install(const char *const package[]);
qt_err qt_apt_unpack(const char *folder, const char *const package[]);
bool   qt_has_program(const char *name);
/* An error if `bytes` are more than three quarters of the machine's memory: what a file claims need not be true. */
qt_err qt_fits_memory(const char *file, double bytes);
#endif
