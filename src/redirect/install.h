// The ladder for one CRT: its entries, else the tables that lead to it, else it is left alone. And
// all of them: those in the process, and those that come later. Loader lock held.
#ifndef MI_REDIRECT_INSTALL_H
#define MI_REDIRECT_INSTALL_H

#include "redirect/crt.h"

// Redirects every CRT of the process that is not handled yet. The allocator must be bound.
void mi_install_all(void);
// A module that has just been mapped; nothing happens unless it is a CRT.
void mi_install_loaded(uint8_t *base, const mi_nt_string_t *name);
void mi_install_unloaded(const uint8_t *base);
// Those that have left the process without a notification.
void mi_install_forget_gone(void);

// Is any CRT redirected?
bool mi_install_is_active(void);
// Is any function of any CRT redirected? Then blocks of ours may be anywhere.
bool mi_install_is_engaged(void);
// Puts the allocating functions of every CRT back, or redirects them again. The functions that take
// a block stay redirected: they must go on to recognise ours. A CRT for which that fails stays as
// it was, and its note says why. CRTs that come later are treated alike.
void mi_install_pause(bool is_paused);

#endif
