/* config.c - see config.h. */
#include "daemon/config.h"

#include "proto/json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

void mx_config_defaults(struct mx_config *c)
{
    memset(c, 0, sizeof *c);
    c->log_level = MX_LOG_INFO;
    (void)snprintf(c->http, sizeof c->http, "127.0.0.1:7118");
#define SETTING_DEFAULT(key, def, min, max, live, what) c->key = def;
    MX_SETTINGS(SETTING_DEFAULT)
}

int mx_read_file(const char *path, size_t max, char **ret, size_t *ret_n, struct mx_err *err)
{
    FILE *f = fopen(path, "re");
    char *p;
    size_t n;

    if (f == NULL) {
        return mx_fail(err, errno == ENOENT ? MX_ENOTFOUND : MX_EIO, "%s: %s", path,
                       strerror(errno));
    }
    p = malloc(max + 2);
    if (p == NULL) {
        (void)fclose(f);
        return mx_fail(err, MX_ENOMEM, "%s: no memory", path);
    }
    n = fread(p, 1, max + 1, f);
    if (ferror(f) != 0 || n > max) {
        bool large = ferror(f) == 0;
        (void)fclose(f);
        free(p);
        return large ? mx_fail(err, MX_EINVALID, "%s: over %zu bytes", path, max)
                     : mx_fail(err, MX_EIO, "%s: can't be read", path);
    }
    (void)fclose(f);
    p[n] = '\0';
    *ret = p;
    *ret_n = n;
    return 0;
}

static int take_path(const struct mx_json_doc *d, const mx_json *o, const char *key, char *ret,
                     size_t n, struct mx_err *err)
{
    const char *s = NULL;
    int rc = mx_json_take_string(d, o, key, false, &s, err);

    if (rc < 0 || s == NULL) {
        return rc;
    }
    if (strlen(s) >= n) {
        return mx_json_fail(d, mx_json_get(o, key), err, "longer than %zu bytes", n - 1);
    }
    memcpy(ret, s, strlen(s) + 1);
    return 0;
}

static int take_listen(const struct mx_json_doc *d, const mx_json *o, struct mx_config *c,
                       struct mx_err *err)
{
    const mx_json *list = mx_json_get(o, "listen");

    if (list == NULL) {
        return 0;
    }
    if (!mx_json_is_array(list) || mx_json_count(list) > MX_LISTEN_MAX) {
        return mx_json_fail(d, list, err, "must be a list of at most %d URLs", MX_LISTEN_MAX);
    }
    c->n_listen = 0;
    for (const mx_json *v = mx_json_first(list); v != NULL; v = mx_json_next(v)) {
        if (!mx_json_is_string(v) || strlen(mx_json_string(v)) >= MX_PATH_MAX) {
            return mx_json_fail(d, list, err, "item %" PRIu32 " is no URL", c->n_listen);
        }
        (void)snprintf(c->listen[c->n_listen++], MX_PATH_MAX, "%s", mx_json_string(v));
    }
    return 0;
}

static int read_keys(const struct mx_json_doc *d, const mx_json *o, struct mx_config *c,
                     struct mx_err *err)
{
    static const char *const keys[] = {
        "data", "listen", "http", "insecure", "log_level",
#define SETTING_KEY(key, def, min, max, live, what) #key,
        MX_SETTINGS(SETTING_KEY) NULL,
    };
    const char *level = NULL;
    int rc;

    if (!mx_json_is_object(o)) {
        return mx_json_fail(d, o, err, "the file must hold one object");
    }
    if ((rc = mx_json_known_keys(d, o, keys, err)) < 0 ||
        (rc = take_path(d, o, "data", c->data, sizeof c->data, err)) < 0 ||
        (rc = take_path(d, o, "http", c->http, sizeof c->http, err)) < 0 ||
        (rc = mx_json_take_bool(d, o, "insecure", false, &c->insecure, err)) < 0 ||
        (rc = mx_json_take_string(d, o, "log_level", false, &level, err)) < 0 ||
        (rc = take_listen(d, o, c, err)) < 0) {
        return rc;
    }
    if (level != NULL && mx_log_parse_level(level, &c->log_level) < 0) {
        return mx_json_fail(d, mx_json_get(o, "log_level"), err,
                            "\"%s\" is none of debug, info, warn, error", level);
    }
#define SETTING_READ(key, def, min, max, live, what)                                              \
    if ((rc = mx_json_take_u64(d, o, #key, false, min, max, &c->key, err)) < 0) {                 \
        return rc;                                                                                \
    }
    MX_SETTINGS(SETTING_READ)
    return 0;
}

int mx_config_read(const char *path, struct mx_config *c, struct mx_err *err)
{
    struct mx_json_doc *d;
    char *text;
    size_t n;
    int rc = mx_read_file(path, MX_JSON_MAX, &text, &n, err);

    if (rc < 0) {
        return rc;
    }
    rc = mx_json_parse(path, text, n, &d, err);
    free(text);
    if (rc < 0) {
        return rc;
    }
    rc = read_keys(d, mx_json_root(d), c, err);
    mx_json_free(d);
    return rc;
}

/* Whether only this machine can reach the address. */
static bool is_local(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0 ||
           strncmp(host, "localhost:", 10) == 0;
}

/* ":PORT" at the end, 0 to 65535; the system would take a larger one modulo 65536. */
static bool has_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon != NULL ? strlen(colon + 1) : 0;

    return n > 0 && n <= 5 && strspn(colon + 1, "0123456789") == n && atoi(colon + 1) <= 65535;
}

static int check_listen(const struct mx_config *c, const char *url, struct mx_err *err)
{
    if (strncmp(url, "ipc:///", 7) == 0) {
        /* sockaddr_un's path ends a connection attempt with a useless text otherwise. */
        return strlen(url + 6) < 108 ? 0 : mx_fail(err, MX_EINVALID, "%s: a socket's path may "
                                                   "have 107 bytes, this has %zu", url,
                                                   strlen(url + 6));
    }
    if (strncmp(url, "tcp://", 6) != 0 || !has_port(url + 6)) {
        return mx_fail(err, MX_EINVALID, "%s: must be tcp://HOST:PORT or ipc:///PATH", url);
    }
    if (!is_local(url + 6) && !c->insecure) {
        return mx_fail(err, MX_EDENIED, "%s: isn't a loopback address; anyone who reaches it could "
                       "read and change everything: say --insecure if that is wanted", url);
    }
    return 0;
}

int mx_config_finish(struct mx_config *c, struct mx_err *err)
{
    if (c->data[0] == '\0') {
        return mx_fail(err, MX_EINVALID, "no data folder: give --data DIR");
    }
    if (c->n_listen == 0) {
        char real[2 * MX_PATH_MAX], here[MX_PATH_MAX];

        (void)snprintf(c->listen[c->n_listen++], MX_PATH_MAX, "tcp://127.0.0.1:7117");
        if (realpath(c->data, real) == NULL) { /* it isn't there yet */
            bool relative = c->data[0] != '/' && getcwd(here, sizeof here) != NULL;
            (void)snprintf(real, sizeof real, "%s%s%s", relative ? here : "", relative ? "/" : "",
                           c->data);
        }
        if (real[0] == '/' && strlen(real) + strlen("/mixd.sock") < 108) {
            (void)snprintf(c->listen[c->n_listen++], MX_PATH_MAX, "ipc://%.4000s/mixd.sock", real);
        } else {
            mx_log(MX_LOG_WARN, "config.ipc", "text=\"the data folder's path is too long for a "
                   "socket; only tcp is listened on\"");
        }
    }
    for (uint32_t i = 0; i < c->n_listen; i++) {
        int rc = check_listen(c, c->listen[i], err);
        if (rc < 0) {
            return rc;
        }
    }
    if (strcmp(c->http, "off") != 0) {
        if (!has_port(c->http)) {
            return mx_fail(err, MX_EINVALID, "http \"%s\": must be ADDR:PORT or off", c->http);
        }
        if (!is_local(c->http) && !c->insecure) {
            return mx_fail(err, MX_EDENIED, "http %s: isn't a loopback address: say --insecure if "
                           "that is wanted", c->http);
        }
    }
    return 0;
}

void mx_config_reload(struct mx_config *c, const struct mx_config *fresh)
{
#define SETTING_RELOAD(key, def, min, max, live, what)                                            \
    if (c->key != fresh->key) {                                                                   \
        if (live) {                                                                               \
            mx_log(MX_LOG_INFO, "config.set", "key=" #key " from=%" PRIu64 " to=%" PRIu64,        \
                   c->key, fresh->key);                                                           \
            c->key = fresh->key;                                                                  \
        } else {                                                                                  \
            mx_log(MX_LOG_WARN, "config.restart", "key=" #key " text=\"needs a restart\"");       \
        }                                                                                         \
    }
    MX_SETTINGS(SETTING_RELOAD)
    if (c->log_level != fresh->log_level) {
        c->log_level = fresh->log_level;
        mx_log_set_level(c->log_level);
    }
}
