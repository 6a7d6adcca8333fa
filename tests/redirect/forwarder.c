// A DLL whose only export is another DLL's function. For importer.c.
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

// Not by a .def file: for x86 lld would put an underscore before the other DLL's name.
__asm__(".section .drectve\n.ascii \" -export:forwarded_malloc=synth_table.malloc\"\n.text\n");

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved);
BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reason;
    (void)reserved;
    return TRUE;
}
