/* Images: decoding against what was written, damage of every kind, resizing, and folders of them as a data set. */
#include "data_util.h"
#include "image.h"
#include <math.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb/stb_image_write.h>

enum { W = 13, H = 9 };

/* A smooth picture, [H, W, 4]. */
static void paint(uint8_t *p, bool opaque)
{
    for (int i = 0; i < H * W; i++) {
        p[4 * i] = (uint8_t)(i % W * 19), p[4 * i + 1] = (uint8_t)(i / W * 27), p[4 * i + 2] = (uint8_t)(255 - i * 2);
        p[4 * i + 3] = opaque ? 255 : (uint8_t)(i * 2);
    }
}

/* The same, opaque, as a JPEG: stb_image_write's stbi_write_jpg(file, W, H, 4, p, 95). */
static const char jpeg[] =
    "\xff\xd8\xff\xe0\x00\x10\x4a\x46\x49\x46\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00\x84\x00\x02\x01\x01\x01\x01\x01\x02"
    "\x01\x01\x01\x02\x02\x02\x02\x02\x04\x03\x02\x02\x02\x02\x05\x04\x04\x03\x04\x06\x05\x06\x06\x06\x05\x06\x06\x06\x07\x09\x08\x06"
    "\x07\x09\x07\x06\x06\x08\x0b\x08\x09\x0a\x0a\x0a\x0a\x0a\x06\x08\x0b\x0c\x0b\x0a\x0c\x09\x0a\x0a\x0a\x01\x02\x02\x02\x02\x02\x02"
    "\x05\x03\x03\x05\x0a\x07\x06\x07\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a"
    "\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\xff\xc0\x00\x11\x08\x00"
    "\x09\x00\x0d\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01\xff\xc4\x01\xa2\x00\x00\x01\x05\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x10\x00\x02\x01\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d\x01"
    "\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71\x14\x32\x81\x91\xa1\x08\x23\x42\xb1\xc1\x15\x52\xd1\xf0\x24"
    "\x33\x62\x72\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\x29\x2a\x34\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a"
    "\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x83\x84\x85\x86\x87\x88\x89\x8a"
    "\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5\xc6"
    "\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9"
    "\xfa\x01\x00\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x11\x00"
    "\x02\x01\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13"
    "\x22\x32\x81\x08\x14\x42\x91\xa1\xb1\xc1\x09\x23\x33\x52\xf0\x15\x62\x72\xd1\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\x27"
    "\x28\x29\x2a\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69"
    "\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6"
    "\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe2"
    "\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00\xf9"
    "\xd3\xe0\xe7\xec\x29\xfe\xab\xfe\x24\xde\x9f\xf2\xce\xbf\xa4\x38\x9b\xe9\x91\xf1\x7f\xb4\x7e\x27\xe6\x7e\x13\xf8\xa9\xfc\x3f\xde"
    "\x76\xea\x7d\x3d\xe0\x3f\xd8\x53\xfe\x24\xe3\xfe\x24\xde\x9f\xf2\xce\xbf\x05\xcd\xfe\x99\x1f\xed\x3f\xef\x1f\x89\xfe\x8c\x70\x57"
    "\x8a\x9f\xf0\x92\xbf\x79\xdb\xa9\xe9\x5f\x07\x3f\xe5\x97\xe1\x5f\xe7\x77\x13\x7d\xa3\xfc\x41\xf0\x9f\xfe\x5d\xfc\x8f\xa7\xbc\x07"
    "\xff\x00\x20\x71\xf8\x57\xe0\xb9\xbf\xfb\xc9\xfe\x8c\x70\x57\xfc\x8a\x57\xc8\xff\xd9";

enum { SIZE = 159, SCAN = 601 }; /* where it has height and width, two bytes each, and the tables of the scan's second component */

static void put32(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v; }

static size_t chunk(uint8_t *p, const char *name, const uint8_t *data, size_t n)
{
    put32(p, (uint32_t)n);
    memcpy(p + 4, name, 4);
    if (n) memcpy(p + 8, data, n);
    put32(p + 8 + n, (uint32_t)crc32(0, p + 4, (uInt)n + 4));
    return n + 12;
}

/* A PNG that states w x h RGBA and holds the n bytes `raw` (rows with their filter byte). */
static size_t png(uint8_t *p, uint32_t w, uint32_t h, const uint8_t *raw, size_t n)
{
    uint8_t head[13] = {[8] = 8, [9] = 6}, *packed = qt_alloc(n + 1000);
    uLongf  size = n + 1000;
    size_t  at   = 8;
    put32(head, w), put32(head + 4, h);
    memcpy(p, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(compress(packed, &size, raw, n), Z_OK);
    at += chunk(p + at, "IHDR", head, 13);
    at += chunk(p + at, "IDAT", packed, size);
    at += chunk(p + at, "IEND", NULL, 0);
    qt_free(packed);
    return at;
}

static size_t paint_png(uint8_t *p, bool opaque)
{
    uint8_t pixels[H * W * 4], raw[H * (W * 4 + 1)] = {0};
    paint(pixels, opaque);
    for (int h = 0; h < H; h++) memcpy(raw + h * (W * 4 + 1) + 1, pixels + h * W * 4, W * 4);
    return png(p, W, H, raw, sizeof raw);
}

static void test_decode(void **state)
{
    static const char *const name[] = {"a.png", "a.bmp", "a.jpg"};
    uint8_t                  p[H * W * 4], bytes[2000], x[3 * H * W], grey[H * W];
    (void)state;
    paint(p, true);
    write_file(path_of("a.png"), bytes, paint_png(bytes, true));
    assert_int_not_equal(stbi_write_bmp(path_of("a.bmp"), W, H, 4, p), 0);
    write_file(path_of("a.jpg"), jpeg, sizeof jpeg - 1);
    for (int k = 0; k < 3; k++) {
        int off = k == 2 ? 40 : 0; /* JPEG loses something */
        expect_ok(qt_image_read(path_of(name[k]), 3, H, W, 0, x));
        expect_ok(qt_image_read(path_of(name[k]), 1, H, W, 0, grey));
        for (int i = 0; i < H * W; i++) {
            for (int c = 0; c < 3; c++) assert_true(abs(x[c * H * W + i] - p[4 * i + c]) <= off);
            assert_true(fabs(grey[i] - (0.299 * x[i] + 0.587 * x[H * W + i] + 0.114 * x[2 * H * W + i])) <= 0.51);
        }
    }
    /* over a background */
    paint(p, false);
    write_file(path_of("clear.png"), bytes, paint_png(bytes, false));
    expect_ok(qt_image_read(path_of("clear.png"), 3, H, W, 200, x));
    for (int i = 0; i < H * W; i++)
        for (int c = 0; c < 3; c++) assert_true(fabs(x[c * H * W + i] - (p[4 * i + c] * p[4 * i + 3] + 200. * (255 - p[4 * i + 3])) / 255) <= 0.5);
}

static void test_resize(void **state)
{
    uint8_t bytes[2000], flat[H * W * 4], x[3 * 40 * 40], one[3];
    double  mean[3] = {0};
    (void)state;
    memset(flat, 93, sizeof flat);
    assert_int_not_equal(stbi_write_bmp(path_of("flat.bmp"), W, H, 4, flat), 0);
    for (int side = 1; side <= 40; side += 3) {
        expect_ok(qt_image_read(path_of("flat.bmp"), 3, side, 41 - side, 93, x));
        for (int i = 0; i < 3 * side * (41 - side); i++) assert_int_equal(x[i], 93);
    }
    /* a horizontal ramp stays one: twice the width puts centres at quarter steps */
    write_file(path_of("a.png"), bytes, paint_png(bytes, true));
    expect_ok(qt_image_read(path_of("a.png"), 3, H, 2 * W, 0, x));
    for (int w = 1; w < 2 * W - 1; w++) assert_true(fabs(x[w] - 19 * (w / 2. - 0.25)) <= 0.51);
    /* shrinking to one pixel weighs all of them, the middle more: near the mean of this smooth picture */
    expect_ok(qt_image_read(path_of("a.png"), 3, 1, 1, 0, one));
    paint(flat, true);
    for (int i = 0; i < H * W; i++)
        for (int c = 0; c < 3; c++) mean[c] += flat[4 * i + c] / (double)(H * W);
    for (int c = 0; c < 3; c++) assert_true(fabs(one[c] - mean[c]) < 2);
}

/* Files cut at every length, and files with flipped bits. A PNG is right or refused; the others must not crash, and say one thing. */
static void test_fuzz(void **state)
{
    static const char *const name[] = {"f.png", "f.bmp", "f.jpg"};
    uint8_t                  p[H * W * 4], bytes[2000], *all, good[3 * H * W], x[3 * H * W];
    qt_rng                   r = qt_rng_named(1, "image");
    (void)state;
    paint(p, true);
    write_file(path_of("f.png"), bytes, paint_png(bytes, true));
    stbi_write_bmp(path_of("f.bmp"), W, H, 3, p);
    write_file(path_of("f.jpg"), jpeg, sizeof jpeg - 1);
    for (int k = 0; k < 3; k++) {
        size_t n = read_file(path_of(name[k]), &all);
        expect_ok(qt_image_read(path_of(name[k]), 3, H, W, 0, good));
        for (size_t cut = 0; cut < n; cut += cut < 64 ? 1 : 7) {
            write_file(path_of("cut"), all, cut);
            qt_err e = qt_image_read(path_of("cut"), 3, H, W, 0, x);
            if (k < 2 || cut < n / 2) assert_int_equal(e, QT_EDATA);
            assert_int_equal(qt_error_count(), e != QT_OK);
            qt_error_clear();
        }
        for (int flip = 0; flip < 1500; flip++) {
            size_t  at  = qt_rng_below(&r, n);
            uint8_t was = all[at];
            all[at] ^= (uint8_t)(1 << qt_rng_below(&r, 8));
            write_file(path_of("flip"), all, n);
            qt_err e = qt_image_read(path_of("flip"), 3, H, W, 0, x);
            if (e == QT_OK && k == 0) assert_memory_equal(x, good, sizeof x);
            assert_int_equal(qt_error_count(), e != QT_OK);
            qt_error_clear();
            all[at] = was;
        }
        qt_free(all);
    }
}

static void test_bombs(void **state)
{
    static uint8_t bytes[1 << 16];
    uint8_t       *zeros = qt_alloc(1 << 24), x[3];
    size_t         n;
    (void)state;
    n = png(bytes, 100000, 100000, zeros, 1000);
    write_file(path_of("bomb.png"), bytes, n);
    expect(qt_image_read(path_of("bomb.png"), 3, 1, 1, 0, x), QT_EDATA, "bomb.png: image of 100000 x 100000 pixels");
    n = png(bytes, 16000, 16000, zeros, 1000);
    write_file(path_of("bomb.png"), bytes, n);
    expect(qt_image_read(path_of("bomb.png"), 3, 1, 1, 0, x), QT_EDATA, "at most 67 million");
    n = png(bytes, 4, 4, zeros, 1 << 24); /* 16 MB in an image of 4 x 4 */
    write_file(path_of("bomb.png"), bytes, n);
    expect(qt_image_read(path_of("bomb.png"), 3, 1, 1, 0, x), QT_EDATA, "bomb.png: damaged image");
    n = png(bytes, 8000, 8000, zeros, 1000);
    write_file(path_of("bomb.png"), bytes, n);
    expect(qt_image_read(path_of("bomb.png"), 3, 1, 1, 0, x), QT_EDATA, "bomb.png: damaged image: too short for its size");
    n = png(bytes, 2000, 2000, zeros, 2000 * (1 + 4 * 2000)); /* one colour: no image is packed better */
    write_file(path_of("bomb.png"), bytes, n);
    expect_ok(qt_image_read(path_of("bomb.png"), 3, 1, 1, 0, x));
    n = sizeof jpeg - 1, memcpy(bytes, jpeg, n);
    bytes[SIZE] = bytes[SIZE + 2] = 32; /* 8201 x 8205 */
    write_file(path_of("bomb.jpg"), bytes, n);
    expect(qt_image_read(path_of("bomb.jpg"), 3, 1, 1, 0, x), QT_EDATA, "bomb.jpg: image of 8201 x 8205 pixels");
    bytes[SIZE] = 16; /* 4105 x 8205 */
    write_file(path_of("bomb.jpg"), bytes, n);
    expect(qt_image_read(path_of("bomb.jpg"), 3, 1, 1, 0, x), QT_EDATA, "bomb.jpg: damaged image: too short for its size");
    n = png(bytes, 0, 4, zeros, 100);
    write_file(path_of("bomb.png"), bytes, n);
    expect(qt_image_read(path_of("bomb.png"), 3, 1, 1, 0, x), QT_EDATA, "bomb.png");
    qt_free(zeros);
}

/* A scan that names Huffman tables which the file does not have: the same comes of it whatever was in memory before. */
static void test_missing_tables(void **state)
{
    static const int dirt[] = {0x00, 0xFF, 0x41, 0x7F};
    uint8_t          bytes[sizeof jpeg], x[3 * H * W], first[3 * H * W] = {0};
    qt_err           e, was = QT_OK;
    (void)state;
    memcpy(bytes, jpeg, sizeof jpeg);
    for (int table = 0x11; table <= 0x33; table += 0x22) { /* the second component's for AC; the third's too */
        bytes[SCAN] = 0x13, bytes[SCAN + 2] = (uint8_t)table;
        write_file(path_of("tables.jpg"), bytes, sizeof jpeg - 1);
        for (int k = 0; k < 4; k++) {
            void *block = memset(malloc(1 << 15), dirt[k], 1 << 15);
            free(block);
            memset(x, 0, sizeof x);
            e = qt_image_read(path_of("tables.jpg"), 3, H, W, 0, x);
            qt_error_clear();
            if (k == 0) was = e, memcpy(first, x, sizeof x);
            assert_int_equal(e, was);
            assert_memory_equal(x, first, sizeof x);
        }
    }
}

/* ---- imagefolder ---- */

/* train/{cat,dog} with 12 and 3 images, test/{dog} with 2; the pixels tell which is which. */
static char *make_folder(const char *root)
{
    static const struct {
        const char *split, *class;
        int         n, red;
    } part[] = {{"train", "cat", 12, 10}, {"train", "dog", 3, 100}, {"test", "dog", 2, 200}};
    char *to = folder(root);
    for (int k = 0; k < 3; k++) {
        if (k != 1) folder(qt_arena_sprintf(&arena, "%s/%s", root, part[k].split));
        folder(qt_arena_sprintf(&arena, "%s/%s/%s", root, part[k].split, part[k].class));
        for (int i = 0; i < part[k].n; i++) {
            uint8_t p[4 * 6 * 3] = {0};
            for (int j = 0; j < 4 * 6; j++) p[3 * j] = (uint8_t)(part[k].red + i), p[3 * j + 1] = (uint8_t)(j * 5);
            char *path = qt_arena_sprintf(&arena, "%s/%s/%s/%02d.%s", to, part[k].split, part[k].class, i, i % 2 ? "png" : "BMP");
            assert_int_not_equal(i % 2 ? stbi_write_png(path, 6, 4, 3, p, 18) : stbi_write_bmp(path, 6, 4, 3, p), 0);
        }
    }
    write_file(qt_arena_sprintf(&arena, "%s/train/notes.txt", to), "x", 1);
    write_file(qt_arena_sprintf(&arena, "%s/train/cat/notes.txt", to), "x", 1);
    return to;
}

static void test_imagefolder(void **state)
{
    char    *at = make_folder("set");
    qt_data *d, *lazy;
    R        a[3 * 4 * 6], b[3 * 4 * 6];
    int32_t  y;
    (void)state;
    OPEN(d, "{use: imagefolder, path: %s, size: [4, 6], classes: 2}", at);
    OPEN(lazy, "{use: imagefolder, path: %s, size: [4, 6], cache_mb: 0}", at);
    assert_int_equal(qt_data_info_of(d)->classes, 2);
    assert_int_equal(qt_data_info_of(lazy)->classes, 2);
    assert_int_equal(qt_data_size(d, QT_TRAIN), 15);
    assert_int_equal(qt_data_size(d, QT_VAL), 0);
    assert_int_equal(qt_data_size(d, QT_TEST), 2);
    for (int64_t i = 0; i < 15; i++) {
        expect_ok(qt_data_get(d, QT_TRAIN, i, NULL, a, &y, NULL));
        expect_ok(qt_data_get(lazy, QT_TRAIN, i, NULL, b, &y, NULL));
        assert_memory_equal(a, b, sizeof a);
        assert_int_equal(y, i >= 12);
        assert_true(a[0] == (R)(i < 12 ? 10 + i : 100 + i - 12) / 255);
        assert_true(a[24 + 23] == (R)115 / 255 && a[48] == 0);
    }
    expect_ok(qt_data_get(d, QT_TEST, 1, NULL, a, &y, NULL));
    assert_true(y == 1 && a[0] == (R)201 / 255);
    qt_data_close(d), qt_data_close(lazy);
    OPEN(d, "{use: imagefolder, path: %s, size: 2, channels: 1, mean: 0.5, std: [0.25]}", at);
    assert_int_equal(qt_data_info_of(d)->dim[0], 1);
    expect_ok(qt_data_get(d, QT_TRAIN, 0, NULL, a, &y, NULL));
    for (int k = 0; k < 4; k++) assert_true(a[k] > -2 && a[k] < 2 && a[k] != 0);
    qt_data_close(d);
    OPEN(d, "{use: imagefolder, path: %s/train, size: 2, train: 'train[:10]', test: 'train[10:]'}", at); /* no splits below: all of it is train */
    assert_int_equal(qt_data_size(d, QT_TEST), 5);
    qt_data_close(d);
}

static void test_bad_imagefolder(void **state)
{
    char *at = make_folder("bad");
    (void)state;
    OPEN_FAILS(QT_EIO, "no such folder", "{use: imagefolder, path: %s/nowhere, size: 2}", at);
    OPEN_FAILS(QT_EDATA, "2 class folders, expected 3 (data.classes)", "{use: imagefolder, path: %s, size: 2, classes: 3}", at);
    OPEN_FAILS(QT_EDATA, "holds no folders", "{use: imagefolder, path: %s/train/cat, size: 2}", at);
    READ_FAILS("data.size: missing", "{use: imagefolder, path: x}");
    READ_FAILS("expected [height, width], found 3", "{use: imagefolder, path: x, size: [1, 2, 3]}");
    READ_FAILS("r.yaml:1:45: data.mean: expected a number or a list of 3", "{use: imagefolder, path: x, size: 2, mean:  [1, 2]}");
    READ_FAILS("data.std: 0 is not in", "{use: imagefolder, path: x, size: 2, std: 0}");
    write_file(qt_arena_sprintf(&arena, "%s/train/dog/01.png", at), "\x89PNG\r\n\x1a\n broken", 15);
    OPEN_FAILS(QT_EDATA, "train/dog/01.png: no PNG, JPEG or BMP image that can be read", "{use: imagefolder, path: %s, size: 2}", at);
    folder("bad/train/empty");
    OPEN_FAILS(QT_EDATA, "train/empty: holds no .png", "{use: imagefolder, path: %s, size: 2}", at);
    folder("bad/test/fox");
    rmdir(path_of("bad/train/empty"));
    OPEN_FAILS(QT_EDATA, "test/fox: the training split has no class 'fox'", "{use: imagefolder, path: %s, size: 2}", at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode), cmocka_unit_test(test_resize),      cmocka_unit_test(test_fuzz),
        cmocka_unit_test(test_bombs),  cmocka_unit_test(test_missing_tables), cmocka_unit_test(test_imagefolder), cmocka_unit_test(test_bad_imagefolder),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
