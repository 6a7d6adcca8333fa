// The allocator DLL's half of the contract with the redirect DLL (base/redirect_abi.h), and what
// the rest of this layer asks about it.
#ifndef MI_ENTRY_REDIRECT_ENTRY_H
#define MI_ENTRY_REDIRECT_ENTRY_H

#include "base/base.h"
#include "base/redirect_abi.h"

// Who answers for pointers that are not ours; NULL = nobody.
mi_crt_ctx_t *mi_redirect_foreign(void);
// Whether malloc, called by the module at this address, lands in our heap. Asks the redirect DLL,
// which calls it.
bool mi_redirect_is_active_for(void *module_base);
// Finds or loads the redirect DLL and lets it begin. Once, at process attach.
void mi_redirect_begin(void *own_base);

#endif
