/* fuzz_entry.c - journal entries, mixes, withdrawals and snapshot words: what decodes encodes to
 * the same. */
#include "daemon/entry.h"
#include "daemon/withdrawal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mx_entry_box box;
    struct mx_err err;
    uint64_t *words, shares[16], version, index;
    struct mx_withdrawn w;
    uint32_t k;
    size_t n;

    if (size < 1) {
        return 0;
    }
    k = 1 + data[0] % 8;
    if (mx_entry_decode((struct mx_span){data + 1, size - 1}, k, &box, &err) == 0) {
        uint8_t *again = mx_entry_encode(&box.entry, k, &n);
        MX_REQUIRE(again != NULL && n == size - 1 && memcmp(again, data + 1, n) == 0);
        free(again);
        mx_entry_box_clear(&box);
    } else {
        MX_REQUIRE(err.text[0] != '\0');
    }
    if (mx_mix_decode((struct mx_span){data + 1, size - 1}, k, 2 * k, &version, &index, shares,
                      &err) == 0) {
        struct mx_entry mix = {.mix_version = version, .index = index, .shares = shares,
                               .n_shares = 2 * k};
        uint8_t *again = mx_mix_encode(&mix, &n);
        MX_REQUIRE(again != NULL && n == size - 1 && memcmp(again, data + 1, n) == 0);
        free(again);
    }
    if (mx_withdrawn_decode((struct mx_span){data + 1, size - 1}, &w, &err) == 0) {
        uint8_t *again = mx_withdrawn_encode(&w, &n);
        MX_REQUIRE(again != NULL && n == size - 1 && memcmp(again, data + 1, n) == 0);
        free(again);
        free(w.pieces);
    }
    if (mx_words_decode((struct mx_span){data + 1, size - 1}, &words, &n, &err) == 0) {
        MX_REQUIRE(n * 8 == size - 1);
        free(words);
    }
    return 0;
}
