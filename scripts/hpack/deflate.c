/*
 * Header lists to header blocks, by nghttp2. In, for each list: a byte (bit 0: a new connection begins; bit 1: four bytes with the
 * table's size follow), the number of fields in two bytes, and for each field a byte (1: never to be indexed), two bytes with the length
 * of its name, two with that of its value, name, value. Out, for each list: its block behind four bytes with its length.
 */
#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FIELDS 64
#define MAX_TABLE_BYTES 4096

static void fail(const char *what) {
  fprintf(stderr, "deflate: %s\n", what);
  exit(1);
}

static uint32_t number(int bytes) {
  uint32_t value = 0;
  while (bytes-- > 0) {
    int byte = getchar();
    if (byte == EOF) fail("a list is incomplete");
    value = value << 8 | (uint32_t)byte;
  }
  return value;
}

static uint8_t *text(size_t length) {
  uint8_t *bytes = malloc(length + 1);
  if (bytes == NULL || fread(bytes, 1, length, stdin) != length) fail("a text is incomplete");
  return bytes;
}

int main(void) {
  nghttp2_hd_deflater *deflater = NULL;
  for (int flags = getchar(); flags != EOF; flags = getchar()) {
    if (flags & 1) {
      if (deflater != NULL) nghttp2_hd_deflate_del(deflater);
      if (nghttp2_hd_deflate_new(&deflater, MAX_TABLE_BYTES) != 0) fail("no memory");
    }
    if (flags & 2 && nghttp2_hd_deflate_change_table_size(deflater, number(4)) != 0) fail("no such size");
    size_t count = number(2);
    nghttp2_nv fields[MAX_FIELDS];
    if (count > MAX_FIELDS) fail("too many fields");
    for (size_t at = 0; at < count; at++) {
      fields[at].flags = number(1) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
      fields[at].namelen = number(2);
      fields[at].valuelen = number(2);
      fields[at].name = text(fields[at].namelen);
      fields[at].value = text(fields[at].valuelen);
    }
    size_t bound = nghttp2_hd_deflate_bound(deflater, fields, count);
    uint8_t *block = malloc(bound);
    ssize_t length = block == NULL ? -1 : nghttp2_hd_deflate_hd(deflater, block, bound, fields, count);
    if (length < 0) fail("a list cannot be encoded");
    for (int shift = 24; shift >= 0; shift -= 8) putchar((int)(length >> shift & 0xff));
    fwrite(block, 1, (size_t)length, stdout);
    free(block);
    for (size_t at = 0; at < count; at++) {
      free(fields[at].name);
      free(fields[at].value);
    }
  }
  return 0;
}
