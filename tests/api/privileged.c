// Says what it sees of its environment: for run_privileged.py, which gives it the rights of another
// user.
#include "mimalloc.h"
#include <stdio.h>
#include <sys/auxv.h>

int main(void) {
    void *p = mi_malloc(100);
    printf("secure %lu verbose %ld delay %ld\n", getauxval(AT_SECURE),
           mi_option_get(mi_option_verbose), mi_option_get(mi_option_purge_delay));
    mi_free(p);
    return 0;
}
