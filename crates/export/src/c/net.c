/* Written by escape-snn @version@ export; see @p@.h and README.md.
 *
 * The network is feed-forward, so a layer's spikes at all timesteps follow from those of the layer below: each stage works
 * column by column over all timesteps, keeps of its input no more columns than its window has, and a neuron's potential lives only while
 * its column is worked on. Only what is not zero is added up. */
#include "@p@.h"
#include "@p@_weights.h"

#include <stddef.h>

typedef enum { CONVOLUTION, SUM, MAXIMUM, LINEAR } kind_t;

/* Channels x rows x columns. */
typedef struct {
    uint16_t channels;
    uint16_t rows;
    uint16_t columns;
} shape_t;

typedef struct {
    kind_t kind;
    shape_t in;
    shape_t out;
    uint16_t kernel_rows;
    uint16_t kernel_columns;
    uint16_t stride_rows;
    uint16_t stride_columns;
    uint16_t top; /* zeros above and to the left of the input */
    uint16_t left;
    uint16_t groups;
    uint16_t slots;     /* columns of the input that are kept */
    uint32_t values_at; /* where, among the values; of the first stage among the input */
    uint16_t spiking;   /* which layer of spiking neurons, counted from 0 */
    const int8_t *weights;     /* columns, rows, groups, channels in, channels out; linear: columns, rows, channels, out */
    const int32_t *bias;       /* or null */
    const int32_t *thresholds; /* or null: the readout */
    int32_t decay;             /* in 2^-15 */
} stage_t;

#define STAGES @stages@u
#define NO_DECAY 32768

static const stage_t stages[STAGES] = {
@table@};

/* Timesteps of a stage's input: the recording is constant. */
static uint32_t planes(uint32_t k)
{
    return (k == 0u) ? 1u : (uint32_t)@P@_STEPS;
}

/* Where a row of a kept column lies: column, timestep, row, channel. */
static uint32_t row_at(uint32_t k, uint32_t column, uint32_t t, uint32_t row)
{
    const stage_t *s = &stages[k];
    const uint32_t slot = column % s->slots;
    return s->values_at + ((((slot * planes(k)) + t) * s->in.rows) + row) * s->in.channels;
}

/* floor(decay u), without a shift of a negative number. */
static int32_t decayed(int32_t u, int32_t decay)
{
    int64_t product;
    if (decay == NO_DECAY) {
        return u;
    }
    product = (int64_t)u * (int64_t)decay;
    return (int32_t)((product >= 0) ? (product / NO_DECAY) : -((-product + NO_DECAY - 1) / NO_DECAY));
}

/* Adds what arrives of n channels: each value times its row of weights. */
static void add_values(int32_t *sums, const @value@ *values, uint32_t n, const int8_t *weights, uint32_t outputs)
{
    uint32_t i;
    uint32_t o;
    for (i = 0u; i < n; i++) {
        const int32_t value = (int32_t)values[i];
        if (value != 0) {
            const int8_t *row = &weights[i * outputs];
            for (o = 0u; o < outputs; o++) {
                sums[o] += value * row[o];
            }
        }
    }
}

/* The same of the recording, most of which is not zero: four sums at a time stay in registers. */
static void add_input(int32_t *sums, const int16_t *values, uint32_t n, const int8_t *weights, uint32_t outputs)
{
    uint32_t i;
    uint32_t o = 0u;
    for (; (o + 4u) <= outputs; o += 4u) {
        int32_t a = sums[o];
        int32_t b = sums[o + 1u];
        int32_t c = sums[o + 2u];
        int32_t d = sums[o + 3u];
        for (i = 0u; i < n; i++) {
            const int32_t value = (int32_t)values[i];
            if (value != 0) {
                const int8_t *row = &weights[(i * outputs) + o];
                a += value * row[0];
                b += value * row[1];
                c += value * row[2];
                d += value * row[3];
            }
        }
        sums[o] = a;
        sums[o + 1u] = b;
        sums[o + 2u] = c;
        sums[o + 3u] = d;
    }
    for (; o < outputs; o++) {
        int32_t a = sums[o];
        for (i = 0u; i < n; i++) {
            a += (int32_t)values[i] * weights[(i * outputs) + o];
        }
        sums[o] = a;
    }
}

/* What arrives at a row of neurons, or all, from n channels of a row of a column. */
static void add(@p@_state_t *state, uint32_t k, uint32_t at, int32_t *sums, uint32_t n, const int8_t *weights, uint32_t outputs)
{
    if (k == 0u) {
        add_input(sums, &state->input[at], n, weights, outputs);
    } else {
        add_values(sums, &state->values[at], n, weights, outputs);
    }
}

/* One timestep of n neurons: their currents, potentials, and where their spikes go. */
static void fire(@p@_state_t *state, const stage_t *s, const int32_t *currents, int32_t *potentials, @value@ *spikes)
{
    uint32_t o;
    for (o = 0u; o < s->out.channels; o++) {
        const int32_t bias = (s->bias == NULL) ? 0 : s->bias[o];
        const int32_t u = decayed(potentials[o], s->decay) + currents[o] + bias;
        if (u > s->thresholds[o]) {
            potentials[o] = u - s->thresholds[o];
            spikes[o] = 1u;
#ifdef @P@_COUNT_SPIKES
            state->spikes[s->spiking]++;
#endif
        } else {
            potentials[o] = u;
            spikes[o] = 0u;
        }
    }
    (void)state;
}

/* Potentials start at half a threshold. */
static void start(const stage_t *s, int32_t *potentials)
{
    uint32_t o;
    for (o = 0u; o < s->out.channels; o++) {
        potentials[o] = s->thresholds[o] / 2;
    }
}

static void clear(int32_t *numbers, uint32_t n)
{
    uint32_t i;
    for (i = 0u; i < n; i++) {
        numbers[i] = 0;
    }
}

/* Where the rows of a window begin that lie within the input, and where they end; counted within the window. */
static uint32_t rows_from(const stage_t *s, uint32_t y)
{
    const uint32_t first = y * s->stride_rows;
    return (first < s->top) ? ((uint32_t)s->top - first) : 0u;
}

static uint32_t rows_to(const stage_t *s, uint32_t y)
{
    const uint32_t first = y * s->stride_rows;
    const uint32_t end = (uint32_t)s->top + s->in.rows;
    const uint32_t inside = (end > first) ? (end - first) : 0u;
    return (inside < s->kernel_rows) ? inside : s->kernel_rows;
}

/* Whether a column of the window in column x lies within the input. */
static int is_inside(const stage_t *s, uint32_t x, uint32_t c)
{
    const uint32_t column = (x * s->stride_columns) + c;
    return (column >= s->left) && (column < ((uint32_t)s->left + s->in.columns));
}

/* Where the first row of a window lies that is within the input, in its column c. */
static uint32_t window_at(uint32_t k, uint32_t x, uint32_t c, uint32_t t, uint32_t y)
{
    const stage_t *s = &stages[k];
    const uint32_t row = (y * s->stride_rows) + rows_from(s, y);
    return row_at(k, ((x * s->stride_columns) + c) - s->left, t, row - s->top);
}

/* What arrives at the neurons of row y in column x at timestep t. */
static void convolve(@p@_state_t *state, uint32_t k, uint32_t x, uint32_t y, uint32_t t)
{
    const stage_t *s = &stages[k];
    const uint32_t inputs = (uint32_t)s->in.channels / s->groups;
    const uint32_t outputs = (uint32_t)s->out.channels / s->groups;
    const uint32_t from = rows_from(s, y);
    const uint32_t to = rows_to(s, y);
    const uint32_t row = (uint32_t)s->groups * inputs * outputs; /* weights of a row of the kernel */
    uint32_t r;
    uint32_t c;
    uint32_t g;
    clear(state->sums, s->out.channels);
    for (c = 0u; c < s->kernel_columns; c++) {
        if ((from < to) && is_inside(s, x, c)) {
            const uint32_t at = window_at(k, x, c, t, y);
            const int8_t *weights = &s->weights[((c * s->kernel_rows) + from) * row];
            if (s->groups == 1u) {
                /* Rows lie one after the other. */
                add(state, k, at, state->sums, (to - from) * inputs, weights, outputs);
            } else {
                for (r = 0u; r < (to - from); r++) {
                    for (g = 0u; g < s->groups; g++) {
                        add(state, k, at + (r * s->in.channels) + (g * inputs), &state->sums[g * outputs], inputs,
                            &weights[(r * row) + (g * inputs * outputs)], outputs);
                    }
                }
            }
        }
    }
}

static void convolution(@p@_state_t *state, uint32_t k, uint32_t x)
{
    const stage_t *s = &stages[k];
    uint32_t y;
    uint32_t t;
    for (y = 0u; y < s->out.rows; y++) {
        start(s, state->potentials);
        for (t = 0u; t < (uint32_t)@P@_STEPS; t++) {
            if (t < planes(k)) {
                convolve(state, k, x, y, t);
            }
            fire(state, s, state->sums, state->potentials, &state->values[row_at(k + 1u, x, t, y)]);
        }
    }
}

/* How often the neuron of a window has fired by timestep t that has fired most. */
static uint32_t most(const @p@_state_t *state, uint32_t k, uint32_t x, uint32_t y, uint32_t channel, uint32_t t)
{
    const stage_t *s = &stages[k];
    const uint32_t from = rows_from(s, y);
    const uint32_t to = rows_to(s, y);
    uint32_t found = 0u;
    uint32_t r;
    uint32_t c;
    uint32_t step;
    for (c = 0u; c < s->kernel_columns; c++) {
        if (is_inside(s, x, c)) {
            for (r = from; r < to; r++) {
                const uint32_t at = ((r - from) * s->in.channels) + channel;
                uint32_t count = 0u;
                for (step = 0u; step <= t; step++) {
                    count += state->values[window_at(k, x, c, step, y) + at];
                }
                found = (count > found) ? count : found;
            }
        }
    }
    return found;
}

/* Of a window's maximum: by how much the count of the neuron grows that has fired most. */
static void maximum(@p@_state_t *state, uint32_t k, uint32_t x)
{
    const stage_t *s = &stages[k];
    uint32_t y;
    uint32_t channel;
    uint32_t t;
    for (y = 0u; y < s->out.rows; y++) {
        for (channel = 0u; channel < s->out.channels; channel++) {
            uint32_t before = 0u;
            for (t = 0u; t < (uint32_t)@P@_STEPS; t++) {
                const uint32_t found = most(state, k, x, y, channel, t);
                state->values[row_at(k + 1u, x, t, y) + channel] = (@value@)(found - before);
                before = found;
            }
        }
    }
}

/* Of a window's mean: how many of its neurons fire. The division is in the next stage's weights. */
static void sum(@p@_state_t *state, uint32_t k, uint32_t x)
{
    const stage_t *s = &stages[k];
    const uint32_t channels = s->out.channels;
    uint32_t y;
    uint32_t t;
    uint32_t r;
    uint32_t c;
    uint32_t channel;
    for (y = 0u; y < s->out.rows; y++) {
        const uint32_t from = rows_from(s, y);
        const uint32_t to = rows_to(s, y);
        for (t = 0u; t < (uint32_t)@P@_STEPS; t++) {
            @value@ *sums = &state->values[row_at(k + 1u, x, t, y)];
            for (channel = 0u; channel < channels; channel++) {
                sums[channel] = 0u;
            }
            for (c = 0u; c < s->kernel_columns; c++) {
                if ((from < to) && is_inside(s, x, c)) {
                    const @value@ *spikes = &state->values[window_at(k, x, c, t, y)];
                    for (r = from; r < to; r++) {
                        for (channel = 0u; channel < channels; channel++) {
                            sums[channel] = (@value@)(sums[channel] + spikes[channel]);
                        }
                        spikes = &spikes[channels];
                    }
                }
            }
        }
    }
}

/* Adds up the next column of a linear stage's input; with the last of them its neurons fire. */
static void linear(@p@_state_t *state, uint32_t k, uint32_t column)
{
    const stage_t *s = &stages[k];
    const uint32_t outputs = s->out.channels;
    const uint32_t inputs = s->in.channels;
    const int last = (column + 1u) == s->in.columns;
    uint32_t row;
    uint32_t t;
    uint32_t o;
    if ((column == 0u) && (s->thresholds != NULL)) {
        clear(state->currents, outputs * (uint32_t)@P@_STEPS);
    }
    for (t = 0u; t < planes(k); t++) {
        /* The readout only sums. */
        int32_t *sums = (s->thresholds == NULL) ? state->readout : &state->currents[t * outputs];
        for (row = 0u; row < s->in.rows; row++) {
            add(state, k, row_at(k, column, t, row), sums, inputs,
                &s->weights[((column * s->in.rows) + row) * inputs * outputs], outputs);
        }
    }
    if (last && (s->thresholds == NULL)) {
        for (o = 0u; o < outputs; o++) {
            const int32_t bias = (s->bias == NULL) ? 0 : s->bias[o];
            const int32_t repeated = (k == 0u) ? ((int32_t)@P@_STEPS * state->readout[o]) : state->readout[o];
            state->readout[o] = repeated + ((int32_t)@P@_STEPS * bias);
        }
    } else if (last) {
        start(s, state->potentials);
        for (t = 0u; t < (uint32_t)@P@_STEPS; t++) {
            const uint32_t plane = (t < planes(k)) ? t : 0u;
            fire(state, s, &state->currents[plane * outputs], state->potentials,
                 &state->values[row_at(k + 1u, 0u, t, 0u)]);
        }
    } else {
        /* More columns are needed. */
    }
}

/* Columns of a stage's output that are there: of a linear one a single column, after all of its input. */
static uint32_t available(const @p@_state_t *state, uint32_t k)
{
    uint32_t columns = state->produced[k];
    if (stages[k].kind == LINEAR) {
        columns = (columns == stages[k].in.columns) ? 1u : 0u;
    }
    return columns;
}

/* Whether a stage has all that its next column needs; a linear stage takes its input column by column. */
static int is_ready(const @p@_state_t *state, uint32_t k)
{
    const stage_t *s = &stages[k];
    const uint32_t there = (k == 0u) ? state->received : available(state, k - 1u);
    const uint32_t next = state->produced[k];
    int ready;
    if (s->kind == LINEAR) {
        ready = (next < s->in.columns) && (next < there);
    } else {
        const uint32_t end = (next * s->stride_columns) + s->kernel_columns;
        const uint32_t zeros = s->left;
        const uint32_t wanted = (end > zeros) ? (end - zeros) : 0u;
        ready = (next < s->out.columns) && (there >= ((wanted < s->in.columns) ? wanted : s->in.columns));
    }
    return ready;
}

static void work(@p@_state_t *state, uint32_t k)
{
    const uint32_t x = state->produced[k];
    switch (stages[k].kind) {
    case CONVOLUTION:
        convolution(state, k, x);
        break;
    case LINEAR:
        linear(state, k, x);
        break;
    case SUM:
        sum(state, k, x);
        break;
    case MAXIMUM:
    default:
        maximum(state, k, x);
        break;
    }
    state->produced[k]++;
}

@p@_status_t @p@_reset(@p@_state_t *state)
{
    uint32_t i;
    if (state == NULL) {
        return @P@_NULL;
    }
    clear(state->readout, @P@_CLASSES);
    for (i = 0u; i < STAGES; i++) {
        state->produced[i] = 0u;
    }
#ifdef @P@_COUNT_SPIKES
    for (i = 0u; i < @spikes_length@u; i++) {
        state->spikes[i] = 0u;
    }
#endif
    state->received = 0u;
    return @P@_MORE;
}

@p@_status_t @p@_push(@p@_state_t *state, const int16_t *column)
{
    uint32_t channel;
    uint32_t row;
    uint32_t k;
    if ((state == NULL) || (column == NULL)) {
        return @P@_NULL;
    }
    if (state->received >= @P@_COLUMNS) {
        return @P@_FULL;
    }
    for (channel = 0u; channel < (uint32_t)@P@_CHANNELS; channel++) {
        for (row = 0u; row < (uint32_t)@P@_ROWS; row++) {
            int32_t value = column[(channel * (uint32_t)@P@_ROWS) + row];
            value = (value > @P@_LARGEST_INPUT) ? @P@_LARGEST_INPUT : value;
            value = (value < -@P@_LARGEST_INPUT) ? -@P@_LARGEST_INPUT : value;
            state->input[row_at(0u, state->received, 0u, row) + channel] = (int16_t)value;
        }
    }
    state->received++;
    /* The last stage that can work comes first, so that no more columns are kept than a window has. */
    k = STAGES;
    while (k > 0u) {
        k--;
        if (is_ready(state, k) != 0) {
            work(state, k);
            k = STAGES;
        }
    }
    return (state->received == @P@_COLUMNS) ? @P@_DONE : @P@_MORE;
}

@p@_status_t @p@_run(@p@_state_t *state, const int16_t *recording)
{
    int16_t column[@P@_CHANNELS * @P@_ROWS];
    @p@_status_t status;
    uint32_t x;
    uint32_t i;
    if (recording == NULL) {
        return @P@_NULL;
    }
    status = @p@_reset(state);
    for (x = 0u; (x < (uint32_t)@P@_COLUMNS) && (status == @P@_MORE); x++) {
        for (i = 0u; i < (uint32_t)(@P@_CHANNELS * @P@_ROWS); i++) {
            column[i] = recording[(i * (uint32_t)@P@_COLUMNS) + x];
        }
        status = @p@_push(state, column);
    }
    return status;
}

uint16_t @p@_decision(const @p@_state_t *state)
{
    uint16_t best = 0u;
    uint16_t i;
    for (i = 1u; i < @P@_CLASSES; i++) {
        if (state->readout[i] > state->readout[best]) {
            best = i;
        }
    }
    return best;
}
