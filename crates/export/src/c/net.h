/* A spiking network in whole numbers: @title@.
 * Written by escape-snn @version@ export. README.md beside this file says what it takes and gives. */
#ifndef @P@_H
#define @P@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A recording: channels x rows (contacts) x columns (samples), as signed values of @input_bits@ bits. */
#define @P@_CHANNELS @channels@
#define @P@_ROWS @rows@
#define @P@_COLUMNS @columns@
/* The largest magnitude of a value; larger ones are cut to it. */
#define @P@_LARGEST_INPUT @largest@
/* What a readout tells apart. */
#define @P@_CLASSES @classes@
/* Timesteps of the simulation. */
#define @P@_STEPS @steps@
/* Layers of neurons that spike. */
#define @P@_SPIKING_LAYERS @spiking@

/* What a call came to. */
typedef enum {
    @P@_DONE = 0,  /* All columns are there: the readout is that of the whole recording. */
    @P@_MORE = 1,  /* More columns are needed. */
    @P@_NULL = 2,  /* A pointer is null; nothing was done. */
    @P@_FULL = 3   /* All columns were there before; nothing was done. Call @p@_reset. */
} @p@_status_t;

/* All that is kept between calls: sizeof(@p@_state_t) bytes. Its fields are nobody's business but @p@_readout,
 * which is complete once a call returned @P@_DONE. */
typedef struct {
    int32_t readout[@P@_CLASSES];  /* a class each; the largest is the decision */
#ifdef @P@_COUNT_SPIKES
    uint32_t spikes[@spikes_length@];  /* of the recording so far, layer by layer */
#endif
    int32_t sums[@sums@];
    int32_t currents[@currents@];
    uint16_t produced[@stages@];
    uint16_t received;
    int16_t input[@input@];
    @count@ counts[@counts@];
    uint8_t trains[@trains@];
} @p@_state_t;

/* Begins a recording. */
@p@_status_t @p@_reset(@p@_state_t *state);

/* Takes the next column, value by value: of each channel all rows. Works as far as the columns so far allow. */
@p@_status_t @p@_push(@p@_state_t *state, const int16_t *column);

/* A whole recording: of each channel all rows, of each row all columns. */
@p@_status_t @p@_run(@p@_state_t *state, const int16_t *recording);

/* The class with the largest readout, the first of equal ones. */
uint16_t @p@_decision(const @p@_state_t *state);

#ifdef __cplusplus
}
#endif

#endif
