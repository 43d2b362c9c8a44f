/* perm.c - keyed, invertible shuffles. See perm.h. Knows nothing of domains, steps or seeds: a key
 * is 64 bits from whoever asks. */
#include "daemon/core/perm.h"

#include "daemon/core/check.h"

/* A Feistel network of a few bits is a poor shuffle (it has few permutations to choose from, and
 * all even); walking through a larger one is a good one, at the price of as many turns as it is
 * larger. Eight bits show no bias for any n, ten cost four times as much for a batch of 32. */
#define BITS_LEAST 8
#define BITS_LEAST_N (1u << BITS_LEAST)
#define WEYL 0x9E3779B97F4A7C15u

/* A finaliser that spreads every bit of x over all 64 (Stafford's variant 13 of MurmurHash3's). */
static uint64_t mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The Feistel round: the top bits of a mix of one half and the round's key, an odd multiplier. The
 * fold between the two multiplications is what makes it far from linear. Six such rounds show no
 * bias over 100,000 keys in places, pairs and differences for any n from 5 up; eight with a single
 * multiplication do. */
static inline uint64_t round_bits(uint64_t half, uint64_t key, unsigned shift)
{
    uint64_t x = (half + 1) * key;

    x ^= x >> 32;
    return (x * 0xA0761D6478BD642Fu) >> shift;
}

void mx_perm_init(struct mx_perm *p, uint64_t n, uint64_t key)
{
    unsigned bits;
    uint64_t at, stride;

    MX_CORE_REQUIRE(n >= 1);
    bits = n <= BITS_LEAST_N ? BITS_LEAST : 64 - (unsigned)__builtin_clzll(n - 1);
    p->n = n;
    p->low_bits = bits / 2;
    p->high_bits = bits - bits / 2;
    /* A keyed start and a keyed stride: distinct keys for the price of two mixes, which matters
     * because each window of an order makes a permutation of its own. */
    at = mix64(key + WEYL) | 1;
    stride = mix64(at ^ WEYL) << 1; /* even, so that every key stays odd */
    for (int i = 0; i < MX_PERM_ROUNDS; i++) {
        p->keys[i] = at;
        at += stride;
    }
}

static inline uint64_t encipher(const struct mx_perm *p, uint64_t x)
{
    unsigned low_shift = 64 - p->low_bits, high_shift = 64 - p->high_bits;
    uint64_t low = x & (((uint64_t)1 << p->low_bits) - 1), high = x >> p->low_bits;

    for (int i = 0; i < MX_PERM_ROUNDS; i += 2) {
        low ^= round_bits(high, p->keys[i], low_shift);
        high ^= round_bits(low, p->keys[i + 1], high_shift);
    }
    return high << p->low_bits | low;
}

static inline uint64_t decipher(const struct mx_perm *p, uint64_t x)
{
    unsigned low_shift = 64 - p->low_bits, high_shift = 64 - p->high_bits;
    uint64_t low = x & (((uint64_t)1 << p->low_bits) - 1), high = x >> p->low_bits;

    for (int i = MX_PERM_ROUNDS; i > 0; i -= 2) {
        high ^= round_bits(low, p->keys[i - 1], high_shift);
        low ^= round_bits(high, p->keys[i - 2], low_shift);
    }
    return high << p->low_bits | low;
}

/* Cycle-walking: the cipher permutes [0, 2^bits); following its cycle from a point below n leads
 * back below n, after less than two turns on average, since n > 2^(bits - 1). */
uint64_t mx_perm_at(const struct mx_perm *p, uint64_t i)
{
    MX_CORE_REQUIRE(i < p->n);
    do {
        i = encipher(p, i);
    } while (i >= p->n);
    return i;
}

void mx_perm_run(const struct mx_perm *p, uint64_t first, uint32_t n, uint64_t *ret)
{
    const struct mx_perm own = *p; /* so that stores to ret can't change it */

    MX_CORE_REQUIRE(first <= p->n && n <= p->n - first);
    for (uint32_t i = 0; i < n; i++) {
        ret[i] = encipher(&own, first + i);
    }
    for (uint32_t i = 0; i < n; i++) {
        while (ret[i] >= own.n) {
            ret[i] = encipher(&own, ret[i]);
        }
    }
}

uint64_t mx_perm_inverse(const struct mx_perm *p, uint64_t x)
{
    MX_CORE_REQUIRE(x < p->n);
    do {
        x = decipher(p, x);
    } while (x >= p->n);
    return x;
}

/* ---- orders ------------------------------------------------------------------------------------
 * In the permuted sequence of chunks all are `chunk` long but for the one at short_at, which lacks
 * `lack` samples. Its window, and all that lies behind it, is shifted by as much. */

/* A 64-bit division costs several times a 32-bit one, and most operands are small. */
static inline uint64_t div_fast(uint64_t a, uint64_t b)
{
    if (((a | b) >> 32) == 0) {
        return (uint32_t)a / (uint32_t)b;
    }
    return a / b;
}

/* Samples to groups, for the usual length of 1 without a division. */
static inline uint64_t groups_of(const struct mx_order *o, uint64_t samples)
{
    return o->length == 1 ? samples : div_fast(samples, o->length);
}

static inline uint64_t lack(const struct mx_order *o)
{
    return o->chunks * o->chunk - o->n;
}

/* Groups that the short chunk lacks: one that isn't whole is none. */
static inline uint64_t lack_groups(const struct mx_order *o)
{
    return groups_of(o, lack(o) + o->length - 1);
}

/* Makes *w the window `number`. */
static void window_init(const struct mx_order *o, uint64_t number, struct mx_order_window *w)
{
    uint64_t left = o->chunks - number * o->window;
    uint64_t held = left < o->window ? left : o->window;
    uint64_t short_window = div_fast(o->short_at, o->window);

    w->number = number;
    w->start = number * o->window * o->chunk;
    w->size = held * o->chunk;
    w->short_end = UINT64_MAX;
    if (number > short_window) {
        w->start -= lack(o);
    } else if (number == short_window) {
        w->size -= lack(o);
        w->short_end = (o->short_at - number * o->window + 1) * o->chunk_groups - lack_groups(o);
    }
    w->groups = groups_of(o, w->size);
    if (w->groups > 0) {
        /* The outer permutation uses the key itself; windows are told apart by an odd multiple. */
        mx_perm_init(&w->inner, w->groups, o->key ^ mix64((number + 1) * WEYL));
    }
}

void mx_order_init_long(struct mx_order *o, uint64_t n, uint32_t chunk, uint32_t window,
                        uint32_t length, uint64_t key)
{
    MX_CORE_REQUIRE(n >= length && chunk >= 1 && window >= 1);
    MX_CORE_REQUIRE(length >= 1 && chunk % length == 0);
    o->n = n;
    o->chunk = chunk;
    o->window = window;
    o->length = length;
    o->chunk_groups = chunk / length;
    o->chunks = n / chunk + (n % chunk != 0);
    o->key = key;
    mx_perm_init(&o->outer, o->chunks, key);
    o->short_at = chunk == 1 ? 0 : mx_perm_inverse(&o->outer, o->chunks - 1);
}

void mx_order_init(struct mx_order *o, uint64_t n, uint32_t chunk, uint32_t window, uint64_t key)
{
    mx_order_init_long(o, n, chunk, window, 1, key);
}

/* Moves *w to the window in which place i lies. */
static void window_find(const struct mx_order *o, uint64_t i, struct mx_order_window *w)
{
    uint64_t span = (uint64_t)o->window * o->chunk, after_short;

    if (i - w->start < w->size) { /* wraps where i is before the start */
        return;
    }
    after_short = (div_fast(o->short_at, o->window) + 1) * span - lack(o);
    window_init(o, div_fast(i >= after_short ? i + lack(o) : i, span), w);
}

/* From a group number of a window, already shuffled, to the group's first sample: its chunk's
 * number is shuffled among all chunks. */
static inline uint64_t leave_window(const struct mx_order *o, const struct mx_order_window *w,
                                    uint64_t x)
{
    uint64_t place;

    x += x >= w->short_end ? lack_groups(o) : 0;
    place = div_fast(x, o->chunk_groups);
    return mx_perm_at(&o->outer, w->number * o->window + place) * o->chunk +
           (x - place * o->chunk_groups) * o->length;
}

uint64_t mx_order_at_in(const struct mx_order *o, uint64_t i, struct mx_order_window *w)
{
    uint64_t group;

    if (o->chunk == 1) {
        return mx_perm_at(&o->outer, i);
    }
    MX_CORE_REQUIRE(i < o->n);
    window_find(o, i, w);
    group = groups_of(o, i - w->start);
    MX_CORE_REQUIRE(group * o->length == i - w->start && group < w->groups);
    return leave_window(o, w, mx_perm_at(&w->inner, group));
}

uint32_t mx_order_run(const struct mx_order *o, uint64_t first, uint32_t n, uint64_t *ret,
                      struct mx_order_window *w)
{
    uint32_t done = 0;

    if (o->chunk == 1) {
        mx_perm_run(&o->outer, first, n, ret);
        return n;
    }
    while (done < n && first < o->n) {
        uint64_t group, left;
        uint32_t m;

        window_find(o, first, w);
        group = groups_of(o, first - w->start);
        MX_CORE_REQUIRE(group * o->length == first - w->start);
        if (group >= w->groups) {
            break;
        }
        left = w->groups - group;
        m = left < n - done ? (uint32_t)left : n - done;
        mx_perm_run(&w->inner, group, m, ret + done);
        for (uint32_t i = done; i < done + m; i++) {
            ret[i] = leave_window(o, w, ret[i]);
        }
        first += (uint64_t)m * o->length;
        done += m;
    }
    return done;
}

uint64_t mx_order_at(const struct mx_order *o, uint64_t i)
{
    struct mx_order_window w = {.size = 0};

    return mx_order_at_in(o, i, &w);
}

uint64_t mx_order_whole(const struct mx_order *o)
{
    return groups_of(o, o->n) * o->length;
}

uint64_t mx_order_next(const struct mx_order *o, uint64_t i, struct mx_order_window *w)
{
    if (o->length == 1) {
        return i;
    }
    while (i < o->n) {
        uint64_t group;

        window_find(o, i, w);
        group = groups_of(o, i - w->start + o->length - 1);
        if (group < w->groups) {
            return w->start + group * o->length;
        }
        i = w->start + w->size;
    }
    return o->n;
}

uint64_t mx_order_window_end(const struct mx_order *o, uint64_t i, struct mx_order_window *w)
{
    if (i >= o->n || o->chunk == 1) {
        return i;
    }
    window_find(o, i, w);
    return i == w->start ? i : w->start + w->size;
}

uint64_t mx_order_inverse(const struct mx_order *o, uint64_t s)
{
    struct mx_order_window w;
    uint64_t place, x;

    MX_CORE_REQUIRE(s < mx_order_whole(o));
    if (o->chunk == 1) {
        return mx_perm_inverse(&o->outer, s);
    }
    place = mx_perm_inverse(&o->outer, s / o->chunk);
    window_init(o, place / o->window, &w);
    x = (place - w.number * o->window) * o->chunk_groups + groups_of(o, s % o->chunk);
    if (x >= w.short_end) {
        x -= lack_groups(o);
    }
    return w.start + mx_perm_inverse(&w.inner, x) * o->length;
}
