// SHA-256 (FIPS 180-4), for the undo record of the editor. Pure, any thread.
#ifndef MI_PE_PE_SHA256_H
#define MI_PE_PE_SHA256_H

#include "base/base.h"

#define MI_SHA256_BYTES 32u

void mi_sha256(const void *data, size_t bytes, uint8_t digest[MI_SHA256_BYTES]);

#endif
