// The page map's window. It has a file of its own, the last that is linked: behind it small
// variables would lie megabytes from the others and take an OS page more.
#include "core/page_map.h"

MI_LARGE_TABLE _Atomic(uintptr_t) mi_page_map_window[MI_MAP_WINDOW_SLICES];
