// The blocks that are still live when the process ends (debug builds, show_stats = 2).
#ifndef MI_ENTRY_LEAKS_H
#define MI_ENTRY_LEAKS_H

#include "mimalloc.h"

// Prints how many there are, their bytes, and the first of them in memory, an address and a size
// each. Other threads may be at work: what they change meanwhile may be missing or listed wrongly.
// Any thread; takes no lock that it would have to wait for.
void mi_leaks_print(mi_output_fun *out, void *arg);

#endif
