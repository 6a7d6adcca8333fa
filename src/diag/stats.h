// The printed and the JSON form of the statistics. The figures themselves are the core's; the entry
// layer gathers them into the public structure. Any thread; nothing allocates.
#ifndef MI_DIAG_STATS_H
#define MI_DIAG_STATS_H

#include "base/text.h"
#include "mimalloc-stats.h"
#include "os/os.h"

// Tells the largest block of a bin; the size classes are the core's.
typedef size_t (*mi_bin_bytes_fn)(size_t bin);

void mi_stats_print_to(const mi_stats_t *stats, mi_output_fun *out, void *arg);
void mi_stats_json_to(const mi_stats_t *stats, const mi_os_process_info_t *info,
                      mi_bin_bytes_fn bin_bytes, mi_text_t *t);
// Time and memory of the process.
void mi_process_print_to(const mi_os_process_info_t *info, mi_output_fun *out, void *arg);

#endif
