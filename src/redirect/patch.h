// The one place that changes code. A set of patches is applied while every other thread of the
// process stands still, all of them or none, and can be put back byte for byte. Loader lock held.
// It does not know what it patches.
#ifndef MI_REDIRECT_PATCH_H
#define MI_REDIRECT_PATCH_H

#include "pe/plan_reason.h"
#include "redirect/island.h"

typedef struct mi_patch_s {
    uint8_t *at;   // the entry
    uint8_t bytes; // at most 8
    uint8_t before[8];
    uint8_t after[8];
} mi_patch_t;

// MI_REASON_NONE = all applied. Otherwise none is, except for MI_REASON_ROLLBACK_FAILED.
// MI_REASON_ALREADY_HOOKED: at one of the entries stands something else than `before` says.
// *was_alone_opt: the process had no other thread while they were written.
mi_reason_t mi_patch_apply(const mi_patch_t *patches, size_t count, bool *was_alone_opt);
// The same, but nothing is written, and nothing is wrong, when there are other threads: *was_alone
// is false then.
mi_reason_t mi_patch_apply_alone(const mi_patch_t *patches, size_t count, bool *was_alone);
// Entries that were never patched may be among them. MI_REASON_ALREADY_HOOKED: somebody has patched
// one of them after us; nothing is put back then.
mi_reason_t mi_patch_undo(const mi_patch_t *patches, size_t count);
// Does any entry still hold what was written? If not, the code has been replaced as a whole.
bool mi_patch_is_anything_left(const mi_patch_t *patches, size_t count);

#endif
