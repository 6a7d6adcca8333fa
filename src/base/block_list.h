// Lists of live blocks (redirect_abi.h), as the allocator writes them: in no order, and with
// entries that take others back. Pure; any thread.
#ifndef MI_BASE_BLOCK_LIST_H
#define MI_BASE_BLOCK_LIST_H

#include "base/redirect_abi.h"

// Sorts by address and drops what was taken back, with the entries that do so. Returns how many are
// left.
size_t mi_block_list_settle(mi_redirect_block_t *blocks, size_t count);

#endif
