// The second rung of the ladder: the CRT's code stays as it is, and the tables that lead to it
// point at import thunks instead: the import address tables of all modules, and the CRT's export
// table, from which GetProcAddress and the modules that load later get their addresses. Loader lock
// held.
//
//   before                                    after
//   app.exe  IAT  malloc: 7FF8'1000 ----+     app.exe  IAT  malloc: thunk ----> replacement
//   b.dll    IAT  #14:    7FF8'1000 ----+     b.dll    IAT  #14:    thunk ----> replacement
//   crt.dll  EAT  malloc: rva 1000      |     crt.dll  EAT  malloc: rva of the thunk, or of an
//   crt.dll  code malloc: ... <---------+                           island that jumps there
//                                             crt.dll  code malloc: the same bytes
//
// What it does not reach: calls inside the CRT (their blocks are the CRT's, and known as such when
// they come back), and addresses that a module fetched and kept before.
#ifndef MI_REDIRECT_RUNG_TABLES_H
#define MI_REDIRECT_RUNG_TABLES_H

#include "redirect/crt.h"

// crt->plan.table_count > 0. MI_REASON_NONE = redirected and proven; otherwise every table is as it
// was, except for MI_REASON_ROLLBACK_FAILED and with crt->keeps_takers.
mi_reason_t mi_rung_tables(mi_crt_t *crt, const mi_pe_t *pe);
// The functions that make blocks go back to the CRT's own, or to us again.
mi_reason_t mi_rung_tables_pause(mi_crt_t *crt, bool is_paused);
// Import cells that have come to hold an original since: a module was bound beforehand, a delayed
// import was resolved at the wrong moment, or the export table could not be changed.
void mi_rung_tables_sweep(void);

#endif
