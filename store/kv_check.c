/* kv_check.c - see kv_check.h. Reads every number by its bytes: nothing of the file is trusted. */
#include "store/kv_check.h"

#include "proto/wire.h"

#define PAGE_HEAD 16u
#define META_BYTES 136u
#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define NODE_HEAD 8u
#define KEY_MAX 511u
#define DEPTH_MAX 32u

enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };
enum { NODE_BIG = 0x01 };
/* The list of free pages has integer keys (0x08), and its flags hold those of the environment too,
 * of which we use NOSUBDIR (0x4000) alone. */
#define FREE_DB_FLAGS 0x4008u

struct walk {
    const uint8_t *p;
    size_t page_bytes;
    uint64_t last;    /* page */
    uint64_t visited; /* a tree has each page once: more visits than pages are a loop */
    uint64_t at;      /* the page in hand, for the error */
};

static uint32_t load_u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

/* The data of a leaf's node: inside the page, or in overflow pages that are all there. */
static const char *check_data(const struct walk *w, const uint8_t *node, size_t room)
{
    size_t head = NODE_HEAD + load_u16(node + 6);
    uint32_t bytes = load_u16(node) | load_u16(node + 2) << 16;
    uint32_t flags = load_u16(node + 4);
    uint64_t page, pages;
    const uint8_t *p;

    if (flags == 0) {
        return bytes > room - head ? "a record runs out of its page" : NULL;
    }
    if (flags != NODE_BIG) {
        return "a node has unknown flags";
    }
    if (room - head < 8) {
        return "a record runs out of its page";
    }
    page = mx_load_u64(node + head);
    pages = ((uint64_t)bytes + PAGE_HEAD + w->page_bytes - 1) / w->page_bytes;
    if (page < 2 || page > w->last || pages > w->last - page + 1) {
        return "a record lies outside of the file";
    }
    p = w->p + page * w->page_bytes;
    if (mx_load_u64(p) != page || load_u16(p + 10) != PAGE_OVERFLOW ||
        mx_load_u32(p + 12) < pages) {
        return "a record's pages aren't where they should be";
    }
    return NULL;
}

static const char *check_page(struct walk *w, uint64_t page, unsigned depth);

/* One node of a page: p is the page, at the node's offset. */
static const char *check_node(struct walk *w, const uint8_t *p, uint32_t at, bool leaf,
                              unsigned depth)
{
    size_t room = w->page_bytes - at;
    const uint8_t *node = p + at;
    uint32_t key_n;

    if (room < NODE_HEAD) {
        return "a node runs out of its page";
    }
    key_n = load_u16(node + 6);
    if (key_n > KEY_MAX || key_n > room - NODE_HEAD || (leaf && key_n == 0)) {
        return "a key runs out of its page";
    }
    if (leaf) {
        return check_data(w, node, room);
    }
    return check_page(w,
                      (uint64_t)load_u16(node) | (uint64_t)load_u16(node + 2) << 16 |
                          (uint64_t)load_u16(node + 4) << 32,
                      depth + 1);
}

static const char *check_page(struct walk *w, uint64_t page, unsigned depth)
{
    const uint8_t *p;
    uint32_t flags, lower, upper, nodes;
    bool leaf;

    if (depth >= DEPTH_MAX || page < 2 || page > w->last || ++w->visited > w->last) {
        return "its tree leads out of the file or in a circle";
    }
    w->at = page;
    p = w->p + page * w->page_bytes;
    flags = load_u16(p + 10);
    lower = load_u16(p + 12);
    upper = load_u16(p + 14);
    leaf = flags == PAGE_LEAF;
    if (mx_load_u64(p) != page || (!leaf && flags != PAGE_BRANCH)) {
        return "a page of the tree isn't one";
    }
    if (lower < PAGE_HEAD || lower > upper || upper > w->page_bytes || lower % 2 != 0) {
        return "a page's bounds are wrong";
    }
    nodes = (lower - PAGE_HEAD) / 2;
    if (nodes < (leaf ? 1u : 2u)) {
        return "a page of the tree has too few nodes";
    }
    for (uint32_t i = 0; i < nodes; i++) {
        uint32_t at = load_u16(p + PAGE_HEAD + (size_t)i * 2);
        const char *why = at < upper || at % 2 != 0 || at > w->page_bytes
                              ? "a node lies outside of its page"
                              : check_node(w, p, at, leaf, depth);
        if (why != NULL) {
            return why;
        }
        w->at = page;
    }
    return NULL;
}

/* A meta page at p; its transaction number, last page and root. */
static const char *check_meta(const uint8_t *p, size_t page_bytes, uint64_t *ret_txn,
                              uint64_t *ret_last, uint64_t *ret_root)
{
    const uint8_t *m = p + PAGE_HEAD;

    if ((load_u16(p + 10) & PAGE_META) == 0 || mx_load_u32(m) != META_MAGIC) {
        return "it is no LMDB file";
    }
    if (mx_load_u32(m + 4) != META_VERSION) {
        return "its LMDB format is of another version";
    }
    if (mx_load_u32(m + 24) != page_bytes || load_u16(m + 28) != FREE_DB_FLAGS ||
        load_u16(m + 24 + 48 + 4) != 0) {
        return "a meta page is wrong";
    }
    *ret_root = mx_load_u64(m + 24 + 48 + 40);
    *ret_last = mx_load_u64(m + 120);
    *ret_txn = mx_load_u64(m + 128);
    return NULL;
}

const char *mx_kv_check(const uint8_t *p, size_t n, uint64_t *ret_page, uint64_t *ret_bytes)
{
    struct walk w = {.p = p};
    uint64_t txn[2], last[2], root[2];
    const char *why = NULL;
    unsigned newest;

    *ret_page = 0;
    if (n < PAGE_HEAD + META_BYTES) {
        return "it is too short";
    }
    w.page_bytes = mx_load_u32(p + PAGE_HEAD + 24);
    if (w.page_bytes < 512 || w.page_bytes > 32768 || (w.page_bytes & (w.page_bytes - 1)) != 0 ||
        n < 2 * w.page_bytes) {
        return "it is no LMDB file, or too short for one";
    }
    for (unsigned i = 0; i < 2 && why == NULL; i++) {
        *ret_page = i;
        why = check_meta(p + i * w.page_bytes, w.page_bytes, &txn[i], &last[i], &root[i]);
    }
    if (why != NULL) {
        return why;
    }
    /* LMDB chooses likewise. */
    newest = txn[0] < txn[1] ? 1 : 0;
    *ret_page = newest;
    w.last = last[newest];
    if (w.last < 1 || w.last >= n / w.page_bytes) {
        return "it is cut short";
    }
    *ret_bytes = (w.last + 1) * w.page_bytes;
    why = root[newest] == UINT64_MAX ? NULL : check_page(&w, root[newest], 0);
    *ret_page = w.at;
    return why;
}
