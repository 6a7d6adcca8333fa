#include "use.h"
int main(void) {
    CHECK(true);
    return test_result();
}
