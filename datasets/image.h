/* Images: decoding files to bytes, bytes to numbers, augmentation. */
#ifndef QT_DATASETS_IMAGE_H
#define QT_DATASETS_IMAGE_H
#include "dataset.h"

typedef struct qt_augment {
    bool    flip; /* mirror left to right with probability 1/2 */
    int64_t crop; /* shift by -crop..crop pixels in both directions; what comes in is black */
} qt_augment;

/* table[b] = (b / white - mean) / std for each byte */
void qt_image_table(R table[256], double white, double mean, double std);
/* y[C,H,W] = table[c][x[c,h,w]], augmented unless draw is NULL. */
void qt_image_put(R *y, const uint8_t *x, int64_t C, int64_t H, int64_t W, const R (*table)[256], const qt_augment *a, qt_rng *draw);
/* A PNG, JPEG or BMP file as x[C,H,W], C 1 (luminance) or 3, over a grey background where it is transparent, resized. QT_EDATA names the
 * file that is damaged or unreasonably large. */
qt_err qt_image_read(const char *file, int64_t C, int64_t H, int64_t W, int background, uint8_t *x);
/* The pixels of a file as RGBA[h,w], 4 bytes each; free() them. */
qt_err qt_image_decode(const char *file, int64_t *w, int64_t *h, uint8_t **rgba);
bool   qt_image_name(const char *file); /* does the name end in .png, .jpg, .jpeg or .bmp? */
#endif
