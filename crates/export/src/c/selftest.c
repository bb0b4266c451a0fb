/* Runs recordings whose results are known through the network: exit status 0 if all of them come out.
 *
 *     cc -std=c99 -D@P@_COUNT_SPIKES @p@.c @p@_selftest.c && ./a.out
 *
 * Written by escape-snn @version@ export. */
#include <stdio.h>

#include "@p@.h"

#ifndef @P@_COUNT_SPIKES
#error "the self-test compares spikes as well: define @P@_COUNT_SPIKES"
#endif

#define GOLDENS @goldens@

@golden_table@static @p@_state_t state;

static int check(int golden)
{
    int failed = 0;
    int i;
    if (@p@_run(&state, recordings[golden]) != @P@_DONE) {
        (void)printf("recording %d: not done after its last column\n", golden);
        failed = 1;
    }
    for (i = 0; i < @P@_CLASSES; i++) {
        if (state.readout[i] != readouts[golden][i]) {
            (void)printf("recording %d, class %d: expected %ld, got %ld\n", golden, i, (long)readouts[golden][i],
                         (long)state.readout[i]);
            failed = 1;
        }
    }
    for (i = 0; i < @spikes_length@; i++) {
        if (state.spikes[i] != spikes[golden][i]) {
            (void)printf("recording %d, layer %d: expected %lu spikes, got %lu\n", golden, i,
                         (unsigned long)spikes[golden][i], (unsigned long)state.spikes[i]);
            failed = 1;
        }
    }
    return failed;
}

int main(void)
{
    int failed = 0;
    int golden;
    for (golden = 0; golden < GOLDENS; golden++) {
        failed |= check(golden);
    }
    (void)printf("%d recordings: %s\n", GOLDENS, (failed == 0) ? "all as expected" : "FAILED");
    return failed;
}
