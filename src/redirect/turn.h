// Whether this thread is inside something that must not begin again in it. The only thread-local
// storage of the redirect DLL: a slot that forgets a thread that was killed inside, whatever its id
// is used for later. A table of ids would fill up with the dead, and mistake the living for them.
#ifndef MI_REDIRECT_TURN_H
#define MI_REDIRECT_TURN_H

#include "base/base.h"

// Loader lock: before anything is redirected, and when this DLL goes away.
void mi_turn_open(void);
void mi_turn_close(void);

// false: this thread is inside already. Also in a process that has used up all its 1088 slots:
// better left out than begun without end. Both keep the thread's last error.
bool mi_turn_begin(void);
void mi_turn_end(void);

#endif
