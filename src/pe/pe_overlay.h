// What lies behind an image's last section, as far as it decides whether the file may grow in the
// middle: installers that check themselves, or that have their data at a place which is written
// down in the file, do not find it afterwards. Pure; any thread.
#ifndef MI_PE_PE_OVERLAY_H
#define MI_PE_PE_OVERLAY_H

#include "pe/pe_image.h"

typedef enum mi_pe_overlay_e {
    MI_PE_OVERLAY_NONE,
    MI_PE_OVERLAY_OTHER,     // unknown, or of a kind that is found from the end or by searching
    MI_PE_OVERLAY_NSIS,      // a checksum over nearly the whole file, which it verifies
    MI_PE_OVERLAY_NSIS_FREE, // NSIS, built without that checksum
    MI_PE_OVERLAY_INNO,      // a table of absolute offsets, with a checksum
    MI_PE_OVERLAY_BURN       // a WiX bundle: the size of its own program part is written down
} mi_pe_overlay_t;

// pe is a file view.
mi_pe_overlay_t mi_pe_overlay(const mi_pe_t *pe);
// Whether the program refuses to start once bytes have been inserted before its overlay.
bool mi_pe_overlay_breaks(mi_pe_overlay_t kind);
// "an NSIS installer" and the like, to be put into a sentence.
const char *mi_pe_overlay_text(mi_pe_overlay_t kind);

#endif
