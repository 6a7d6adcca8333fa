// SHA-256: the published vectors, the processor's instructions against plain C, and any way of
// cutting the input into pieces.
#include "pe/pe_sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed;
static int passed;

static void check(bool fact, const char *what, size_t n) {
    passed += fact;
    failed += !fact;
    if (!fact)
        fprintf(stderr, "failed: %s (%zu)\n", what, n);
}

static bool is_hex(const uint8_t digest[MI_SHA256_BYTES], const char *hex) {
    char text[2 * MI_SHA256_BYTES + 1];
    for (size_t i = 0; i < MI_SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return strcmp(text, hex) == 0;
}

static void test_vectors(void) {
    static uint8_t million[1000000];
    uint8_t digest[MI_SHA256_BYTES];
    mi_sha256("", 0, digest);
    check(is_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
          "vector", 0);
    mi_sha256("abc", 3, digest);
    check(is_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
          "vector", 3);
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    mi_sha256(two, strlen(two), digest);
    check(is_hex(digest, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
          "vector", 56);
    memset(million, 'a', sizeof million);
    mi_sha256(million, sizeof million, digest);
    check(is_hex(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
          "vector", sizeof million);
}

int main(void) {
    static uint8_t data[4096 + 64];
    uint64_t x = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < sizeof data; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        data[i] = (uint8_t)(x >> 32);
    }
    test_vectors();
    mi_sha256_blocks_t cpu = mi_sha256_blocks_cpu();
    for (size_t n = 0; n <= 64; n++) {
        uint32_t a[8];
        uint32_t b[8];
        memcpy(a, data + n, sizeof a);
        memcpy(b, data + n, sizeof b);
        mi_sha256_blocks_portable(a, data + n, n);
        (cpu != NULL ? cpu : mi_sha256_blocks_portable)(b, data + n, n); // from any alignment
        check(memcmp(a, b, sizeof a) == 0, "the processor's instructions and plain C", n);
    }
    for (size_t n = 0; n < 300; n++) {
        mi_sha256_t s;
        uint8_t whole[MI_SHA256_BYTES];
        uint8_t pieces[MI_SHA256_BYTES];
        mi_sha256(data, n, whole);
        mi_sha256_begin(&s);
        s.blocks = n % 2 == 0 ? mi_sha256_blocks_portable : s.blocks;
        for (size_t at = 0, step = 1 + n % 7; at < n; at += step, step = step * 3 % 130 + 1)
            mi_sha256_add(&s, data + at, at + step < n ? step : n - at);
        mi_sha256_end(&s, pieces);
        check(memcmp(whole, pieces, sizeof whole) == 0, "in pieces", n);
    }
    printf("%d checks passed, %d failed%s\n", passed, failed,
           cpu == NULL ? " (this processor has no SHA instructions)" : "");
    return failed != 0;
}
