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

bool ctl_step(const struct ctl *c, enum ctl_option o, const char *name, uint64_t *ret)
{
    if (ctl_opt(c, o) == NULL) {
        (void)ctl_usage("a step is needed: %s STEP", name);
        return false;
    }
    return ctl_u64(name, ctl_opt(c, o), 0, MX_STEP_MAX, ret);
}

bool ctl_slots(const char *text, uint64_t *ret_first, uint64_t *ret_count)
{
    char first[24];
    const char *colon = strchr(text, ':');

    if (colon == NULL || (size_t)(colon - text) >= sizeof first) {
        (void)ctl_usage("--slots must be FIRST:COUNT, like 0:8, not '%.40s'", text);
        return false;
    }
    (void)snprintf(first, sizeof first, "%.*s", (int)(colon - text), text);
    return ctl_u64("the first slot in --slots FIRST:COUNT", first, 0, MX_BATCH_MAX - 1,
                   ret_first) &&
           ctl_u64("the count in --slots FIRST:COUNT", colon + 1, 1, MX_BATCH_MAX, ret_count);
}

bool ctl_need_why(const struct ctl *c)
{
    if (ctl_opt(c, CTL_WHY) == NULL || ctl_opt(c, CTL_WHY)[0] == '\0') {
        (void)ctl_usage("a reason is needed, for those who read the log later: --why TEXT");
        return false;
    }
    return true;
}

bool ctl_document(const struct ctl *c, struct mx_jsonw *w)
{
    const char *doc = ctl_opt(c, CTL_DOC);
    const char *origin = ctl_opt(c, CTL_ORIGIN);
    const char *colon = origin != NULL ? strrchr(origin, ':') : NULL;
    uint64_t byte;

    if ((doc == NULL) == (origin == NULL)) {
        (void)ctl_usage("which document? either --doc ID or --origin FILE:BYTE");
        return false;
    }
    if (doc != NULL) {
        mx_jsonw_string(w, "doc", doc);
        return true;
    }
    if (colon == NULL || colon == origin) {
        (void)ctl_usage("--origin must be FILE:BYTE, like web.jsonl:4096, not '%.80s'", origin);
        return false;
    }
    mx_jsonw_string(w, "origin", origin);
    return ctl_u64("the byte in --origin FILE:BYTE", colon + 1, 0, UINT64_MAX, &byte);
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

static int parse(const char *json, struct mx_json_doc **ret)
{
    struct mx_err err;

    return mx_json_parse("answer", json, strlen(json), ret, &err) < 0
               ? ctl_fail("the daemon's answer is no good: %s", err.text)
               : CTL_DONE;
}

int ctl_answer(struct ctl *c, char *json, struct mx_json_doc **ret)
{
    int rc = CTL_DONE;

    *ret = NULL;
    if (c->json) {
        (void)puts(json);
    } else {
        rc = parse(json, ret);
    }
    free(json);
    return rc;
}

/* Sends the operation in w (taken); the answer's text is the caller's to free. */
static int ask_text(struct ctl *c, struct mx_jsonw *w, char **ret)
{
    struct mxc_error err;
    char *json;
    int rc = ctl_connect(c);

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
    rc = mxc_control(c->client, json, ret, &err) < 0 ? ctl_client_fail(&err) : CTL_DONE;
    free(json);
    return rc;
}

int ctl_ask(struct ctl *c, struct mx_jsonw *w, struct mx_json_doc **ret)
{
    char *answer = NULL;
    int rc = ask_text(c, w, &answer);

    *ret = NULL;
    return rc != CTL_DONE ? rc : ctl_answer(c, answer, ret);
}

int ctl_ask_both(struct ctl *c, struct mx_jsonw *w, char **ret_text, struct mx_json_doc **ret)
{
    char *answer = NULL;
    int rc = ask_text(c, w, &answer);

    *ret = NULL;
    *ret_text = NULL;
    rc = rc != CTL_DONE ? rc : parse(answer, ret);
    if (rc == CTL_DONE && !mx_json_is_object(mx_json_root(*ret))) {
        rc = ctl_fail("the daemon's answer is no good: it isn't an object");
    }
    if (rc != CTL_DONE) {
        mx_json_free(*ret);
        *ret = NULL;
        free(answer);
        return rc;
    }
    *ret_text = answer;
    return CTL_DONE;
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
