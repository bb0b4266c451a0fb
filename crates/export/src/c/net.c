/* Written by escape-snn @version@ export; see @p@.h and README.md.
 *
 * The network is feed-forward, so a layer's spikes at all timesteps follow from those of the layer below: each stage works
 * column by column over all timesteps, and keeps of its input no more columns than its window has. Of a neuron its train of spikes is
 * kept, a bit for each timestep, so that eight steps without a spike cost one look; its potential lives only while its train is written. */
#include "@p@.h"
#include "@p@_weights.h"

#include <stddef.h>

typedef enum { CONVOLUTION, SUM, MAXIMUM, LINEAR } kind_t;

/* What a stage takes and keeps: values of the recording, which is constant; a train of each neuron; counts of spikes in a mean's window,
 * one for each timestep. */
typedef enum { RECORDING, TRAINS, COUNTS } kept_t;

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
    uint16_t group_in; /* channels of a group */
    uint16_t group_out;
    uint16_t slots;   /* columns of the input that are kept */
    kept_t kept;      /* as what */
    uint32_t kept_at; /* where they begin in the array of all that is kept so */
    uint16_t spiking; /* which layer of spiking neurons, counted from 0 */
    const int8_t *weights;     /* columns, rows, groups, channels in, channels out; linear: columns, rows, channels, out */
    const int32_t *bias;       /* or null */
    const int32_t *thresholds; /* or null: the readout */
    int32_t decay;             /* in 2^-15 */
} stage_t;

#define STAGES @stages@u
#define NO_DECAY 32768
/* Bytes of a train: timestep t is bit t % 8 of byte t / 8. */
#define TRAIN (((uint32_t)@P@_STEPS + 7u) / 8u)

static const stage_t stages[STAGES] = {
@table@};

/* Elements of its array that a neuron takes, or a value of the recording. */
static uint32_t each(const stage_t *s)
{
    uint32_t length = 1u;
    if (s->kept == TRAINS) {
        length = TRAIN;
    } else if (s->kept == COUNTS) {
        length = (uint32_t)@P@_STEPS;
    } else {
        /* The recording. */
    }
    return length;
}

/* Where a row of a kept column begins: column, row, channel. */
static uint32_t row_at(uint32_t k, uint32_t column, uint32_t row)
{
    const stage_t *s = &stages[k];
    const uint32_t slot = column % s->slots;
    return s->kept_at + (((slot * s->in.rows) + row) * s->in.channels * each(s));
}

/* Timesteps of what is added up: a constant recording gives the same in all of them. */
static uint32_t planes(const stage_t *s)
{
    return (s->kept == RECORDING) ? 1u : (uint32_t)@P@_STEPS;
}

/* How far the sums of a timestep lie from those of the one before. The readout's are the same for all. */
static uint32_t apart(const stage_t *s)
{
    return ((s->kept == RECORDING) || (s->thresholds == NULL)) ? 0u : s->out.channels;
}

/* The first timestep from t on with a spike; where there is none, one beyond the last. */
static uint32_t next_spike(const uint8_t *train, uint32_t t)
{
    for (; t < (uint32_t)@P@_STEPS; t = (t | 7u) + 1u) {
        uint32_t bits = (uint32_t)train[t / 8u] >> (t % 8u);
        if (bits != 0u) {
            while ((bits & 1u) == 0u) {
                bits >>= 1;
                t++;
            }
            return t;
        }
    }
    return t;
}

/* floor(decay u), without a shift of a negative number. */
static int32_t decayed(int32_t u, int32_t decay)
{
    if (decay != NO_DECAY) {
        const int64_t product = (int64_t)u * (int64_t)decay;
        u = (int32_t)((product >= 0) ? (product / NO_DECAY) : -((-product + NO_DECAY - 1) / NO_DECAY));
    }
    return u;
}

/* Sums start with the bias, those of each timestep. */
static void start(const stage_t *s, int32_t *sums)
{
    uint32_t t;
    uint32_t o;
    for (t = 0u; t < planes(s); t++) {
        for (o = 0u; o < s->out.channels; o++) {
            sums[o] = (s->bias == NULL) ? 0 : s->bias[o];
        }
        sums = &sums[s->out.channels];
    }
}

/* Adds a row of weights, `count` times. */
static void add_row(int32_t *sums, int32_t count, const int8_t *row, uint32_t outputs)
{
    uint32_t o;
    for (o = 0u; o < outputs; o++) {
        sums[o] += count * row[o];
    }
}

/* What arrives from n neurons: with each of its spikes a neuron's row of weights. */
static void add_trains(const stage_t *s, int32_t *sums, const uint8_t *trains, uint32_t n, const int8_t *weights)
{
    const uint32_t next = apart(s);
    uint32_t i;
    uint32_t t;
    for (i = 0u; i < n; i++) {
        for (t = next_spike(trains, 0u); t < (uint32_t)@P@_STEPS; t = next_spike(trains, t + 1u)) {
            add_row(&sums[t * next], 1, weights, s->group_out);
        }
        trains = &trains[TRAIN];
        weights = &weights[s->group_out];
    }
}

/* What arrives from n means: their rows of weights, as often as neurons of their windows fired. */
static void add_counts(const stage_t *s, int32_t *sums, const @count@ *counts, uint32_t n, const int8_t *weights)
{
    const uint32_t next = apart(s);
    uint32_t i;
    uint32_t t;
    for (i = 0u; i < n; i++) {
        for (t = 0u; t < (uint32_t)@P@_STEPS; t++) {
            if (counts[t] != 0u) {
                add_row(&sums[t * next], (int32_t)counts[t], weights, s->group_out);
            }
        }
        counts = &counts[@P@_STEPS];
        weights = &weights[s->group_out];
    }
}

/* What arrives from n values of the recording, most of which are not zero: four sums at a time stay in registers. */
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

/* What arrives from n neurons that lie one after the other. */
static void add(const @p@_state_t *state, uint32_t k, uint32_t at, uint32_t n, int32_t *sums, const int8_t *weights)
{
    const stage_t *s = &stages[k];
    switch (s->kept) {
    case RECORDING:
        add_input(sums, &state->input[at], n, weights, s->group_out);
        break;
    case COUNTS:
        add_counts(s, sums, &state->counts[at], n, weights);
        break;
    case TRAINS:
    default:
        add_trains(s, sums, &state->trains[at], n, weights);
        break;
    }
}

static void set_spike(uint8_t *train, uint32_t t)
{
    train[t / 8u] = (uint8_t)(train[t / 8u] | (1u << (t % 8u)));
}

static void silence(uint8_t *train)
{
    uint32_t i;
    for (i = 0u; i < TRAIN; i++) {
        train[i] = 0u;
    }
}

/* A row of neurons, each through all timesteps: potentials, which start at half a threshold, and trains. */
static void fire(@p@_state_t *state, uint32_t k, const int32_t *sums, uint32_t at)
{
    const stage_t *s = &stages[k];
    const uint32_t next = apart(s);
    uint8_t *train = &state->trains[at];
    uint32_t o;
    uint32_t t;
    for (o = 0u; o < s->out.channels; o++) {
        const int32_t threshold = s->thresholds[o];
        int32_t u = threshold / 2;
        silence(train);
        for (t = 0u; t < (uint32_t)@P@_STEPS; t++) {
            u = decayed(u, s->decay) + sums[(t * next) + o];
            if (u > threshold) {
                u -= threshold;
                set_spike(train, t);
#ifdef @P@_COUNT_SPIKES
                state->spikes[s->spiking]++;
#endif
            }
        }
        train = &train[TRAIN];
    }
}

/* The rows of a window that lie within the input: the first of them, counted within the window and within the input. */
typedef struct {
    uint32_t first;
    uint32_t row;
    uint32_t count;
} rows_t;

static rows_t window_rows(const stage_t *s, uint32_t y)
{
    const uint32_t begin = y * s->stride_rows;
    const uint32_t first = (begin < s->top) ? (s->top - begin) : 0u;
    const uint32_t end = (uint32_t)s->top + s->in.rows;
    const uint32_t inside = (end > begin) ? (end - begin) : 0u;
    const uint32_t last = (inside < s->kernel_rows) ? inside : s->kernel_rows;
    rows_t rows = {0u, 0u, 0u};
    /* The whole window may lie among the zeros. */
    if (first < last) {
        rows.first = first;
        rows.row = (begin + first) - s->top;
        rows.count = last - first;
    }
    return rows;
}

/* Whether column c of the window in column x lies within the input. */
static int is_inside(const stage_t *s, uint32_t x, uint32_t c)
{
    const uint32_t column = (x * s->stride_columns) + c;
    return (column >= s->left) && (column < ((uint32_t)s->left + s->in.columns));
}

/* Where that column of a window begins. */
static uint32_t window_at(uint32_t k, uint32_t x, uint32_t c, rows_t rows)
{
    return row_at(k, ((x * stages[k].stride_columns) + c) - stages[k].left, rows.row);
}

/* What arrives at a row of neurons from that column of their windows. */
static void convolve(@p@_state_t *state, uint32_t k, uint32_t x, uint32_t c, rows_t rows)
{
    const stage_t *s = &stages[k];
    /* Rows lie one after the other, and so do their channels where all of them go to all outputs. */
    const uint32_t runs = (s->groups == 1u) ? 1u : rows.count;
    const uint32_t n = (s->groups == 1u) ? (rows.count * s->group_in) : s->group_in;
    const int8_t *weights = &s->weights[((c * s->kernel_rows) + rows.first) * s->in.channels * s->group_out];
    uint32_t at = window_at(k, x, c, rows);
    uint32_t run;
    uint32_t g;
    for (run = 0u; run < runs; run++) {
        for (g = 0u; g < s->groups; g++) {
            add(state, k, at, n, &state->sums[g * s->group_out], weights);
            at += n * each(s);
            weights = &weights[n * s->group_out];
        }
    }
}

static void convolution(@p@_state_t *state, uint32_t k, uint32_t x)
{
    const stage_t *s = &stages[k];
    uint32_t y;
    uint32_t c;
    for (y = 0u; y < s->out.rows; y++) {
        const rows_t rows = window_rows(s, y);
        start(s, state->sums);
        for (c = 0u; c < s->kernel_columns; c++) {
            if (is_inside(s, x, c)) {
                convolve(state, k, x, c, rows);
            }
        }
        fire(state, k, state->sums, row_at(k + 1u, x, y));
    }
}

/* Counts the spikes of n neurons, each for itself and each timestep. */
static void count(@count@ *counts, const uint8_t *trains, uint32_t n)
{
    uint32_t i;
    uint32_t t;
    for (i = 0u; i < n; i++) {
        for (t = next_spike(trains, 0u); t < (uint32_t)@P@_STEPS; t = next_spike(trains, t + 1u)) {
            counts[t]++;
        }
        counts = &counts[@P@_STEPS];
        trains = &trains[TRAIN];
    }
}

/* Of a window's mean: how many of its neurons fire. The division is in the next stage's weights. */
static void sum(@p@_state_t *state, uint32_t k, uint32_t x)
{
    const stage_t *s = &stages[k];
    const uint32_t channels = s->out.channels;
    uint32_t y;
    uint32_t c;
    uint32_t i;
    for (y = 0u; y < s->out.rows; y++) {
        const rows_t rows = window_rows(s, y);
        @count@ *counts = &state->counts[row_at(k + 1u, x, y)];
        for (i = 0u; i < (channels * (uint32_t)@P@_STEPS); i++) {
            counts[i] = 0u;
        }
        for (c = 0u; c < s->kernel_columns; c++) {
            if (is_inside(s, x, c)) {
                const uint8_t *trains = &state->trains[window_at(k, x, c, rows)];
                for (i = 0u; i < rows.count; i++) {
                    count(counts, trains, channels);
                    trains = &trains[channels * TRAIN];
                }
            }
        }
    }
}

/* The n-th spike of a maximum comes with the first n-th spike of any neuron of its window. Takes one neuron more into the times of the
 * spikes so far, and returns how many there are. */
static uint32_t earliest(int32_t *times, uint32_t spikes, const uint8_t *train)
{
    uint32_t n = 0u;
    uint32_t t;
    for (t = next_spike(train, 0u); t < (uint32_t)@P@_STEPS; t = next_spike(train, t + 1u)) {
        if ((n >= spikes) || ((int32_t)t < times[n])) {
            times[n] = (int32_t)t;
        }
        n++;
    }
    return (n > spikes) ? n : spikes;
}

/* When a channel's maximum over the window in column x fires, which it notes in the place of sums; returns how often. */
static uint32_t times_of_maximum(@p@_state_t *state, uint32_t k, uint32_t x, rows_t rows, uint32_t channel)
{
    const stage_t *s = &stages[k];
    uint32_t spikes = 0u;
    uint32_t c;
    uint32_t r;
    for (c = 0u; c < s->kernel_columns; c++) {
        if (is_inside(s, x, c)) {
            const uint32_t at = window_at(k, x, c, rows);
            for (r = 0u; r < rows.count; r++) {
                const uint32_t neuron = (r * s->in.channels) + channel;
                spikes = earliest(state->sums, spikes, &state->trains[at + (neuron * TRAIN)]);
            }
        }
    }
    return spikes;
}

/* Of a window's maximum: a spike whenever the count of the neuron grows that has fired most. */
static void maximum(@p@_state_t *state, uint32_t k, uint32_t x)
{
    const stage_t *s = &stages[k];
    uint32_t y;
    uint32_t channel;
    uint32_t n;
    for (y = 0u; y < s->out.rows; y++) {
        const rows_t rows = window_rows(s, y);
        uint8_t *train = &state->trains[row_at(k + 1u, x, y)];
        for (channel = 0u; channel < s->out.channels; channel++) {
            const uint32_t spikes = times_of_maximum(state, k, x, rows, channel);
            silence(train);
            for (n = 0u; n < spikes; n++) {
                set_spike(train, (uint32_t)state->sums[n]);
            }
            train = &train[TRAIN];
        }
    }
}

/* The readout over all timesteps: in each of them there is its bias, and a recording, where it takes one. */
static void finish(const stage_t *s, int32_t *readout)
{
    const int32_t repeats = (s->kept == RECORDING) ? (int32_t)@P@_STEPS : 1;
    uint32_t o;
    for (o = 0u; o < s->out.channels; o++) {
        const int32_t bias = (s->bias == NULL) ? 0 : s->bias[o];
        readout[o] = (repeats * readout[o]) + ((int32_t)@P@_STEPS * bias);
    }
}

/* Adds up the next column of a linear stage's input; with the last of them its neurons fire. The readout only sums. */
static void linear(@p@_state_t *state, uint32_t k, uint32_t column)
{
    const stage_t *s = &stages[k];
    const uint32_t inputs = (uint32_t)s->in.rows * s->in.channels;
    int32_t *sums = (s->thresholds == NULL) ? state->readout : state->currents;
    if ((column == 0u) && (s->thresholds != NULL)) {
        start(s, sums);
    }
    add(state, k, row_at(k, column, 0u), inputs, sums, &s->weights[column * inputs * s->out.channels]);
    if ((column + 1u) == s->in.columns) {
        if (s->thresholds == NULL) {
            finish(s, sums);
        } else {
            fire(state, k, sums, row_at(k + 1u, 0u, 0u));
        }
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
    for (i = 0u; i < (uint32_t)@P@_CLASSES; i++) {
        state->readout[i] = 0;
    }
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
            state->input[row_at(0u, state->received, row) + channel] = (int16_t)value;
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
