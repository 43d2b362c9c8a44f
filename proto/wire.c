/* wire.c - see wire.h. Bytes are put together by shifts, so the host's byte order is no matter. */
#include "proto/wire.h"

#include <string.h>

uint32_t mx_load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t mx_load_u64(const uint8_t *p)
{
    return (uint64_t)mx_load_u32(p) | (uint64_t)mx_load_u32(p + 4) << 32;
}

void mx_store_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

void mx_store_u64(uint8_t *p, uint64_t v)
{
    mx_store_u32(p, (uint32_t)v);
    mx_store_u32(p + 4, (uint32_t)(v >> 32));
}

float mx_load_f32(const uint8_t *p)
{
    uint32_t bits = mx_load_u32(p);
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

void mx_store_f32(uint8_t *p, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    mx_store_u32(p, bits);
}

void mx_reader_init(struct mx_reader *r, const void *p, size_t n)
{
    static const uint8_t nothing;

    r->p = n > 0 ? p : &nothing;
    r->end = r->p + n;
    r->failed = false;
}

size_t mx_reader_left(const struct mx_reader *r)
{
    return r->failed ? 0 : (size_t)(r->end - r->p);
}

/* n bytes to read, or NULL and the sticky error. */
static const uint8_t *take(struct mx_reader *r, size_t n)
{
    const uint8_t *p = r->p;

    if (r->failed || n > (size_t)(r->end - r->p)) {
        r->failed = true;
        return NULL;
    }
    r->p += n;
    return p;
}

uint8_t mx_read_u8(struct mx_reader *r)
{
    const uint8_t *p = take(r, 1);
    return p != NULL ? p[0] : 0;
}

uint16_t mx_read_u16(struct mx_reader *r)
{
    const uint8_t *p = take(r, 2);
    return p != NULL ? (uint16_t)((unsigned)p[0] | (unsigned)p[1] << 8) : 0;
}

uint32_t mx_read_u32(struct mx_reader *r)
{
    const uint8_t *p = take(r, 4);
    return p != NULL ? mx_load_u32(p) : 0;
}

uint64_t mx_read_u64(struct mx_reader *r)
{
    const uint8_t *p = take(r, 8);
    return p != NULL ? mx_load_u64(p) : 0;
}

double mx_read_f64(struct mx_reader *r)
{
    uint64_t bits = mx_read_u64(r);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

struct mx_span mx_read_bytes(struct mx_reader *r, size_t n)
{
    struct mx_span s = {take(r, n), n};

    if (s.p == NULL) {
        s.p = (const uint8_t *)"";
        s.n = 0;
    }
    return s;
}

struct mx_span mx_read_str(struct mx_reader *r, size_t max)
{
    size_t n = mx_read_u16(r);

    if (n > max) {
        r->failed = true;
    }
    return mx_read_bytes(r, n);
}

struct mx_span mx_read_rest(struct mx_reader *r)
{
    return mx_read_bytes(r, mx_reader_left(r));
}

bool mx_reader_done(const struct mx_reader *r)
{
    return !r->failed && r->p == r->end;
}

void mx_writer_init(struct mx_writer *w, void *p, size_t n)
{
    w->base = w->p = p;
    w->end = w->base + n;
    w->failed = false;
}

size_t mx_writer_len(const struct mx_writer *w)
{
    return (size_t)(w->p - w->base);
}

uint8_t *mx_write_room(struct mx_writer *w, size_t n)
{
    uint8_t *p = w->p;

    if (w->failed || n > (size_t)(w->end - w->p)) {
        w->failed = true;
        return NULL;
    }
    w->p += n;
    return p;
}

void mx_write_u8(struct mx_writer *w, uint8_t v)
{
    mx_write_bytes(w, &v, 1);
}

void mx_write_u16(struct mx_writer *w, uint16_t v)
{
    uint8_t *p = mx_write_room(w, 2);

    if (p != NULL) {
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
    }
}

void mx_write_u32(struct mx_writer *w, uint32_t v)
{
    uint8_t *p = mx_write_room(w, 4);

    if (p != NULL) {
        mx_store_u32(p, v);
    }
}

void mx_write_u64(struct mx_writer *w, uint64_t v)
{
    uint8_t *p = mx_write_room(w, 8);

    if (p != NULL) {
        mx_store_u64(p, v);
    }
}

void mx_write_f64(struct mx_writer *w, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    mx_write_u64(w, bits);
}

void mx_write_bytes(struct mx_writer *w, const void *p, size_t n)
{
    uint8_t *room = mx_write_room(w, n);

    if (room != NULL && n > 0) {
        memcpy(room, p, n);
    }
}

void mx_write_str(struct mx_writer *w, const void *p, size_t n)
{
    if (n > UINT16_MAX) {
        w->failed = true;
        return;
    }
    mx_write_u16(w, (uint16_t)n);
    mx_write_bytes(w, p, n);
}
