/* wire.h - little-endian cursors over bytes, with a sticky error.
 *
 * A reader that has once run past its end stays failed and yields zeros and empty strings, so a
 * decoder reads every field and asks once at the end. A writer that ran out of room stays failed
 * and writes nothing more. No allocation, no I/O; any thread, one cursor per thread. */
#ifndef MX_PROTO_WIRE_H
#define MX_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes; not terminated. */
struct mx_span {
    const uint8_t *p;
    size_t n;
};

struct mx_reader {
    const uint8_t *p, *end;
    bool failed;
};

void mx_reader_init(struct mx_reader *r, const void *p, size_t n);
size_t mx_reader_left(const struct mx_reader *r);
uint8_t mx_read_u8(struct mx_reader *r);
uint16_t mx_read_u16(struct mx_reader *r);
uint32_t mx_read_u32(struct mx_reader *r);
uint64_t mx_read_u64(struct mx_reader *r);
double mx_read_f64(struct mx_reader *r);
/* n bytes, borrowed from the buffer. */
struct mx_span mx_read_bytes(struct mx_reader *r, size_t n);
/* A u16 length and that many bytes; more than max fails. */
struct mx_span mx_read_str(struct mx_reader *r, size_t max);
/* All that is left. */
struct mx_span mx_read_rest(struct mx_reader *r);
/* True if nothing failed and every byte was read. */
bool mx_reader_done(const struct mx_reader *r);

struct mx_writer {
    uint8_t *base, *p, *end;
    bool failed;
};

void mx_writer_init(struct mx_writer *w, void *p, size_t n);
size_t mx_writer_len(const struct mx_writer *w);
void mx_write_u8(struct mx_writer *w, uint8_t v);
void mx_write_u16(struct mx_writer *w, uint16_t v);
void mx_write_u32(struct mx_writer *w, uint32_t v);
void mx_write_u64(struct mx_writer *w, uint64_t v);
void mx_write_f64(struct mx_writer *w, double v);
void mx_write_bytes(struct mx_writer *w, const void *p, size_t n);
/* A u16 length and the bytes; longer than 65535 fails. */
void mx_write_str(struct mx_writer *w, const void *p, size_t n);
/* Room for n bytes that the caller fills, or NULL if there is none. */
uint8_t *mx_write_room(struct mx_writer *w, size_t n);

/* Single loads and stores, for tables inside a frame; p need not be aligned. */
uint32_t mx_load_u32(const uint8_t *p);
uint64_t mx_load_u64(const uint8_t *p);
void mx_store_u32(uint8_t *p, uint32_t v);
void mx_store_u64(uint8_t *p, uint64_t v);
float mx_load_f32(const uint8_t *p);
void mx_store_f32(uint8_t *p, float v);

#endif
