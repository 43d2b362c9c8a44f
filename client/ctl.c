/* ctl.c - what the commands share: failing, numbers in options, asking the daemon. See ctl.h. */
#include "client/ctl.h"

#include "proto/limits.h"

#include <errno.h>
#include <math.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

const char *ctl_opt(const struct ctl *c, enum ctl_option o)
{
    return c->opt[o - CTL_FORMAT];
}

/* One line, whatever the text holds. */
static void __attribute__((format(printf, 1, 0))) say(const char *fmt, va_list ap)
{
    char line[2048];

    (void)vsnprintf(line, sizeof line, fmt, ap);
    for (char *p = line; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
    fprintf(stderr, "mixctl: %s\n", line);
}

int ctl_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    return CTL_FAILED;
}

int ctl_usage(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    return CTL_USAGE;
}

bool ctl_u64(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v < min || v > max) {
        (void)ctl_usage("%s must be a whole number from %llu to %llu, not '%.80s'", what,
                        (unsigned long long)min, (unsigned long long)max, text);
        return false;
    }
    *ret = v;
    return true;
}

bool ctl_double(const char *what, const char *text, double *ret)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(v)) {
        (void)ctl_usage("%s must be a number, not '%.80s'", what, text);
        return false;
    }
    *ret = v;
    return true;
}

int ctl_client_fail(const struct mxc_error *err)
{
    (void)ctl_fail("%s", err->text);
    return err->code == MXC_UNREACHABLE ? CTL_UNREACHED : CTL_FAILED;
}

int ctl_connect(struct ctl *c)
{
    char name[64];
    struct mxc_options o = {.name = name, .timeout_ms = c->timeout_ms, .inflight = 1};
    struct mxc_error err;

    if (c->client != NULL) {
        return CTL_DONE;
    }
    (void)snprintf(name, sizeof name, "mixctl/%ld", (long)getpid());
    return mxc_open(c->url, &o, &c->client, &err) < 0 ? ctl_client_fail(&err) : CTL_DONE;
}

int ctl_answer(struct ctl *c, char *json, struct mx_json_doc **ret)
{
    struct mx_err err;
    int rc = CTL_DONE;

    *ret = NULL;
    if (c->json) {
        (void)puts(json);
    } else if (mx_json_parse("answer", json, strlen(json), ret, &err) < 0) {
        rc = ctl_fail("the daemon's answer is no good: %s", err.text);
    }
    free(json);
    return rc;
}

int ctl_ask(struct ctl *c, struct mx_jsonw *w, struct mx_json_doc **ret)
{
    char *json = NULL, *answer;
    struct mxc_error err;
    int rc = ctl_connect(c);

    *ret = NULL;
    if (rc != CTL_DONE) {
        mx_jsonw_fini(w);
        return rc;
    }
    mx_jsonw_end_object(w);
    json = mx_jsonw_take(w, NULL);
    if (json == NULL) {
        return ctl_fail("the request is larger than the %u bytes that the daemon takes",
                        MX_REQUEST_MAX);
    }
    rc = mxc_control(c->client, json, &answer, &err) < 0 ? ctl_client_fail(&err)
                                                         : ctl_answer(c, answer, ret);
    free(json);
    return rc;
}

void ctl_op(struct mx_jsonw *w, const char *op)
{
    mx_jsonw_init(w, MX_REQUEST_MAX);
    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "op", op);
}

void ctl_author(struct ctl *c, struct mx_jsonw *w)
{
    char host[128] = "";
    char author[256];
    const char *user = getenv("USER");
    const struct passwd *pw = user == NULL || user[0] == '\0' ? getpwuid(getuid()) : NULL;

    if (gethostname(host, sizeof host - 1) != 0) {
        host[0] = '\0';
    }
    if (user == NULL || user[0] == '\0') {
        user = pw != NULL ? pw->pw_name : "unknown";
    }
    (void)snprintf(author, sizeof author, "%.100s@%s", user, host);
    mx_jsonw_string(w, "author", author);
    if (ctl_opt(c, CTL_WHY) != NULL) {
        mx_jsonw_string(w, "why", ctl_opt(c, CTL_WHY));
    }
}
