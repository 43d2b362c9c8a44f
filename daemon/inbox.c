/* inbox.c - see inbox.h. uv_async_send coalesces, so a wake-up takes the whole list. */
#include "daemon/inbox.h"

static void wake_cb(uv_async_t *wake)
{
    mx_inbox_drain(wake->data);
}

int mx_inbox_init(struct mx_inbox *b, uv_loop_t *loop, struct mx_err *err)
{
    int rc = uv_mutex_init(&b->lock);

    if (rc == 0) {
        rc = uv_async_init(loop, &b->wake, wake_cb);
    }
    if (rc != 0) {
        return mx_fail(err, MX_EIO, "inbox: %s", uv_strerror(rc));
    }
    b->wake.data = b;
    b->head = NULL;
    b->tail = &b->head;
    return 0;
}

void mx_inbox_put(struct mx_inbox *b, struct mx_inbox_item *item)
{
    item->next = NULL;
    uv_mutex_lock(&b->lock);
    *b->tail = item;
    b->tail = &item->next;
    uv_mutex_unlock(&b->lock);
    (void)uv_async_send(&b->wake);
}

void mx_inbox_drain(struct mx_inbox *b)
{
    struct mx_inbox_item *item;

    uv_mutex_lock(&b->lock);
    item = b->head;
    b->head = NULL;
    b->tail = &b->head;
    uv_mutex_unlock(&b->lock);
    while (item != NULL) {
        struct mx_inbox_item *next = item->next;
        item->handle(item); /* may put the item again */
        item = next;
    }
}
