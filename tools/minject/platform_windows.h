// What the two Windows files of the tool share.
#ifndef MI_MINJECT_PLATFORM_WINDOWS_H
#define MI_MINJECT_PLATFORM_WINDOWS_H

#include "minject/platform.h"

#include <windows.h>

#define PATH_UNITS 4096

// UTF-8 to UTF-16, out has PATH_UNITS units.
bool win_wide_of(const char *s, wchar_t *out);
// Makes plat_last_error() say this.
void win_note_error(DWORD code);
void win_note_text(const char *text);

#endif
