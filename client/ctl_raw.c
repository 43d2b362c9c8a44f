/* ctl_raw.c - pieces of JSON text, found without taking it apart: see ctl.h.
 *
 * Relies on the text being valid, so it only looks for where a value ends. */
#include "client/ctl.h"

#include <string.h>

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static const char *string_end(const char *p)
{
    p++;
    while (*p != '"') {
        p += *p == '\\' ? 2 : 1;
    }
    return p + 1;
}

static const char *value_end(const char *p)
{
    unsigned depth = 0;

    if (*p == '"') {
        return string_end(p);
    }
    if (*p != '{' && *p != '[') {
        return p + strcspn(p, ",]} \t\r\n");
    }
    do {
        if (*p == '"') {
            p = string_end(p);
            continue;
        }
        if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            depth--;
        }
        p++;
    } while (depth > 0);
    return p;
}

void ctl_walk_init(struct ctl_walk *w, const char *text)
{
    w->p = skip_space(text);
    w->object = *w->p == '{';
}

bool ctl_walk_next(struct ctl_walk *w, struct ctl_raw *ret_key, struct ctl_raw *ret_value)
{
    const char *p = w->p;

    if (*p != '}' && *p != ']') {
        p = skip_space(p + 1); /* past the opening bracket, or the comma */
    }
    if (*p == '}' || *p == ']') {
        w->p = p;
        return false;
    }
    if (w->object) {
        *ret_key = (struct ctl_raw){p, (size_t)(string_end(p) - p)};
        p = skip_space(p + ret_key->n);
        p = skip_space(p + 1);
    }
    *ret_value = (struct ctl_raw){p, (size_t)(value_end(p) - p)};
    w->p = skip_space(p + ret_value->n);
    return true;
}

bool ctl_raw_member(const char *object, const char *key, struct ctl_raw *ret)
{
    struct ctl_walk w;
    struct ctl_raw name, value;

    ctl_walk_init(&w, object);
    while (ctl_walk_next(&w, &name, &value)) {
        if (name.n == strlen(key) + 2 && memcmp(name.p + 1, key, name.n - 2) == 0) {
            *ret = value;
            return true;
        }
    }
    return false;
}
