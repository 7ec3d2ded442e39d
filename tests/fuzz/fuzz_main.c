/* fuzz_main.c – runs a fuzz target over files, where no fuzzing engine is linked: a
 * corpus as a test, or the input of a crash under the debugger. Exit status 1 if a file
 * cannot be read; a broken property traps. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    uint8_t *data = malloc(INPUT_MAX);
    int status = data ? EXIT_SUCCESS : EXIT_FAILURE;
    for (int i = 1; data && i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) {
            perror(argv[i]);
            status = EXIT_FAILURE;
            continue;
        }
        size_t size = fread(data, 1, INPUT_MAX, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    return status;
}
