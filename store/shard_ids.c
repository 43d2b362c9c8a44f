/* shard_ids.c - gathers and sorts the entries of a shard's index of ids (shard_impl.h). */
#include "store/shard_impl.h"

int mx_id_list_add(struct mx_id_list *l, const struct mx_document *d, uint64_t token,
                   struct mx_err *err)
{
    if (d->id_len == 0) {
        return 0;
    }
    if (l->n == l->room) {
        size_t room = l->room == 0 ? 1024 : l->room * 2;
        struct mx_id_entry *p = reallocarray(l->p, room, sizeof *p);
        if (p == NULL) {
            return mx_fail(err, MX_ENOMEM, "out of memory for the ids of %zu documents", room);
        }
        l->p = p;
        l->room = room;
    }
    l->p[l->n++] = (struct mx_id_entry){.hash = mx_id_hash(d), .token = token};
    return 0;
}

static int order_cb(const void *a, const void *b)
{
    return mx_id_order(a, b);
}

void mx_id_list_sort(struct mx_id_list *l)
{
    if (l->n > 1) {
        qsort(l->p, l->n, sizeof *l->p, order_cb);
    }
}

void mx_id_list_free(struct mx_id_list *l)
{
    free(l->p);
}
