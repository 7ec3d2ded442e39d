/* unit.c – runs the registered tests; see unit.h. */
#include "unit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

static unit_test *first, **last = &first;
static jmp_buf failed;

void unit_add(unit_test *test) {
    *last = test;
    last = &test->next;
}

void unit_fail(const char *file, int line, const char *fmt, ...) {
    va_list ap;
    printf("  %s:%d: ", file, line);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    longjmp(failed, 1);
}

int main(int argc, char **argv) {
    static volatile int passed, broken;
    for (unit_test *volatile test = first; test; test = test->next) {
        if (argc > 1 && !strstr(test->name, argv[1])) continue;
        if (setjmp(failed) == 0) {
            test->run();
            passed++;
        } else {
            printf("not ok %s\n", test->name);
            broken++;
        }
    }
    printf("%d passed, %d failed\n", passed, broken);
    return broken || !passed ? EXIT_FAILURE : EXIT_SUCCESS;
}
