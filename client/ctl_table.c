/* ctl_table.c - aligned tables and numbers that people read. Knows nothing of what they mean. */
#include "client/ctl.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

struct ctl_table {
    const char *const *heads;
    size_t columns, cells, cap;
    char **cell;
};

/* mixctl has nothing to clean up: without memory it says so and ends. */
static void *must(void *p)
{
    if (p == NULL) {
        exit(ctl_fail("out of memory"));
    }
    return p;
}

struct ctl_table *ctl_table_new(const char *const *heads, size_t n)
{
    struct ctl_table *t = must(calloc(1, sizeof *t));

    t->heads = heads;
    t->columns = n;
    return t;
}

void ctl_table_cell(struct ctl_table *t, const char *text)
{
    if (t->cells == t->cap) {
        t->cap = t->cap > 0 ? t->cap * 2 : 64;
        t->cell = must(reallocarray(t->cell, t->cap, sizeof *t->cell));
    }
    t->cell[t->cells++] = must(strdup(text));
}

/* Columns on a terminal: bytes that begin a character. */
static size_t width_of(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return n;
}

static void print_cell(FILE *f, const char *text, size_t width, bool right, bool last)
{
    size_t pad = width - width_of(text);

    if (right) {
        fprintf(f, "%*s%s", (int)pad, "", text);
    } else {
        fprintf(f, "%s%*s", text, last ? 0 : (int)pad, "");
    }
    fputs(last ? "\n" : "  ", f);
}

void ctl_table_print(struct ctl_table *t, FILE *f)
{
    size_t *width = must(calloc(t->columns, sizeof *width));
    size_t rows = t->cells / t->columns;

    for (size_t i = 0; i < t->columns; i++) {
        size_t n = strlen(t->heads[i]);

        width[i] = t->heads[i][n - 1] == '>' ? n - 1 : n;
        for (size_t r = 0; r < rows; r++) {
            size_t w = width_of(t->cell[r * t->columns + i]);
            width[i] = w > width[i] ? w : width[i];
        }
    }
    for (size_t r = 0; r <= rows; r++) {
        for (size_t i = 0; i < t->columns; i++) {
            bool right = t->heads[i][strlen(t->heads[i]) - 1] == '>';
            char head[CTL_CHARS];

            (void)snprintf(head, sizeof head, "%.*s", (int)(strlen(t->heads[i]) - right),
                           t->heads[i]);
            print_cell(f, r == 0 ? head : t->cell[(r - 1) * t->columns + i], width[i], right,
                       i + 1 == t->columns);
        }
    }
    for (size_t i = 0; i < t->cells; i++) {
        free(t->cell[i]);
    }
    free(width);
    free(t->cell);
    free(t);
}

const char *ctl_count(char *buf, double n)
{
    char digits[CTL_CHARS];
    size_t len, at = 0;

    if (!(n >= 0 && n < 1e18)) {
        (void)snprintf(buf, CTL_CHARS, "%g", n);
        return buf;
    }
    len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, (uint64_t)n);
    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            buf[at++] = ',';
        }
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

const char *ctl_bytes(char *buf, double n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t u = 0;

    while (n >= 1024 && u < 5) {
        n /= 1024;
        u++;
    }
    (void)snprintf(buf, CTL_CHARS, u == 0 ? "%.0f %s" : "%.1f %s", n, units[u]);
    return buf;
}

const char *ctl_share(char *buf, const mx_json *v)
{
    if (v == NULL || !mx_json_is_number(v)) {
        return "-";
    }
    (void)snprintf(buf, CTL_CHARS, "%.4f", mx_json_number(v));
    return buf;
}

uint64_t ctl_number(const mx_json *o, const char *key)
{
    double x = mx_json_number(mx_json_get(o, key));

    return x >= 0 && x < 1e18 ? (uint64_t)x : 0;
}

const char *ctl_time(char *buf, const mx_json *v)
{
    double s = mx_json_number(v) / 1000;
    time_t t = s >= 0 && s < 1e11 ? (time_t)s : 0;
    struct tm tm;

    if (v == NULL || localtime_r(&t, &tm) == NULL ||
        strftime(buf, CTL_CHARS, "%Y-%m-%d %H:%M:%S", &tm) == 0) {
        return "-";
    }
    return buf;
}

void ctl_print_line(char *line)
{
    for (char *p = line; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
    (void)puts(line);
    free(line);
}

const char *ctl_member(char *buf, const mx_json *o, const char *key)
{
    const mx_json *v = mx_json_get(o, key);
    double x = mx_json_number(v);

    if (v == NULL || mx_json_is_null(v)) {
        return "-";
    }
    if (mx_json_is_string(v)) {
        return mx_json_string(v);
    }
    if (mx_json_is_bool(v)) {
        return mx_json_true(v) ? "yes" : "no";
    }
    if (mx_json_is_object(v) || mx_json_is_array(v)) {
        return ctl_count(buf, mx_json_count(v));
    }
    if (x == floor(x)) {
        return ctl_count(buf, x);
    }
    (void)snprintf(buf, CTL_CHARS, "%.4g", x);
    return buf;
}
