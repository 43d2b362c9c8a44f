/* err.c - texts of errors. See err.h. */
#include "proto/err.h"

#include <stdarg.h>
#include <string.h>

/* What is quoted from outside may hold anything; an error stays one line on a terminal. */
static void one_line(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

int mx_fail(struct mx_err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        err->code = code;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        one_line(err->text);
    }
    return code;
}

int mx_wrap(struct mx_err *err, const char *fmt, ...)
{
    char inner[sizeof err->text];
    va_list ap;
    int n;

    if (err == NULL) {
        return 0;
    }
    memcpy(inner, err->text, sizeof inner);
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text) {
        (void)snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", inner);
    }
    one_line(err->text);
    return err->code;
}

const char *mx_error_name(int code)
{
    switch (code) {
#define MX_ERROR_NAME(c, name, text)                                                              \
    case c: return #name;
        MX_ERRORS(MX_ERROR_NAME)
#undef MX_ERROR_NAME
    default: return code == 0 ? "OK" : "UNKNOWN";
    }
}

const char *mx_error_meaning(int code)
{
    switch (code) {
#define MX_ERROR_TEXT(c, name, text)                                                              \
    case c: return text;
        MX_ERRORS(MX_ERROR_TEXT)
#undef MX_ERROR_TEXT
    default: return code == 0 ? "done" : "unknown error";
    }
}
