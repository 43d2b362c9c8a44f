/* tokenize.h - from text to tokens. Pure; any thread.
 *
 * The tokenizer "bytes": each byte is the token of its value, and MX_BYTES_EOD ends a document. */
#ifndef MX_STORE_TOKENIZE_H
#define MX_STORE_TOKENIZE_H

#include <stddef.h>
#include <stdint.h>

#define MX_BYTES_TOKENIZER "bytes"
#define MX_BYTES_EOD 256u

/* n bytes to n tokens. */
void mx_bytes_tokenize(const uint8_t *text, size_t n, uint16_t *ret);

#endif
