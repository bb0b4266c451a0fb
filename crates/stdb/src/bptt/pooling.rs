//! What bands of neurons send, and the way back; channels last, H x W x C.

use std::ops::Range;

use escape_network::sequential::{Padding, Pool, Pooling, Shape};

/// Rows of neurons that are pooled together, and the rows that they send.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Band {
    pub rows: Range<usize>,
    pub pooled: Range<usize>,
}

/// How a layer's spikes are pooled.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub neurons: Shape,
    pub pool: Option<Pool>,
    pub pooled: Shape,
    /// What a spike counts in the sum over a window of an average.
    pub share: f32,
}

impl Sending {
    /// Whether it has to know how often each neuron fired.
    pub fn counts(&self) -> bool {
        self.pool.is_some_and(|pool| pool.pooling == Pooling::Max)
    }

    /// The smallest bands whose windows have nothing in common, from the first row to the last.
    pub fn bands(&self) -> Vec<Band> {
        let (height, pooled) = (self.neurons.height, self.pooled.height);
        let down = match &self.pool {
            None => 1,
            Some(pool) if pool.kernel.0 == pool.stride.0 && pool.padding == Padding::default() => {
                pool.kernel.0
            }
            Some(_) => return vec![Band { rows: 0..height, pooled: 0..pooled }],
        };
        let band = |n: usize| Band {
            rows: n * down..((n + 1) * down).min(height),
            pooled: n.min(pooled)..(n + 1).min(pooled),
        };
        (0..height.div_ceil(down)).map(band).collect()
    }

    /// The pixels of a window, counted from the band's first.
    #[inline(always)]
    fn window(&self, pool: &Pool, band: &Band, at: (usize, usize)) -> impl Iterator<Item = usize> + use<> {
        let (first, width) = (band.rows.start, self.neurons.width);
        let (rows, columns) = pool.window(at, (self.neurons.height, width));
        rows.flat_map(move |row| columns.clone().map(move |column| (row - first) * width + column))
    }

    /// The windows of a band, row by row.
    #[inline(always)]
    fn windows(&self, band: &Band) -> impl Iterator<Item = (usize, usize)> + use<> {
        let width = self.pooled.width;
        band.pooled.clone().flat_map(move |r| (0..width).map(move |c| (r, c)))
    }

    /// Pools a band's spikes into the rows that it sends. Of a maximum, `fired` says how often each neuron fired before, and is
    /// brought up to date; else it may be empty.
    pub fn pool(&self, band: &Band, spikes: &[f32], fired: &mut [f32], out: &mut [f32]) {
        match &self.pool {
            None => out.copy_from_slice(spikes),
            Some(pool) if self.counts() => {
                // What the most active neuron has gained: its count after this step less that before it.
                most_active(self, pool, band, fired, 1.0, out);
                fired.iter_mut().zip(spikes).for_each(|(fired, spike)| *fired += spike);
                most_active(self, pool, band, fired, -1.0, out);
            }
            Some(pool) => average(self, pool, band, spikes, out),
        }
    }

    /// The way back from [`Sending::pool`] of an average: each neuron's share of the gradients of the rows that its band sends.
    pub fn unpool(&self, band: &Band, gradient: &[f32], out: &mut [f32]) {
        match &self.pool {
            None => out.copy_from_slice(gradient),
            Some(pool) => spread(self, pool, band, gradient, out),
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn average(sending: &Sending, pool: &Pool, band: &Band, spikes: &[f32], out: &mut [f32]) {
    let channels = sending.neurons.channels;
    for (at, sums) in sending.windows(band).zip(out.chunks_exact_mut(channels)) {
        sums.fill(0.0);
        for pixel in sending.window(pool, band, at) {
            sums.iter_mut().zip(&spikes[pixel * channels..]).for_each(|(sum, s)| *sum += s);
        }
        sums.iter_mut().for_each(|sum| *sum *= sending.share);
    }
}

/// With `sign` 1 the largest count of each window; with -1 that less what is there.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn most_active(sending: &Sending, pool: &Pool, band: &Band, fired: &[f32], sign: f32, out: &mut [f32]) {
    let channels = sending.neurons.channels;
    let mut most = vec![0f32; channels];
    for (at, sums) in sending.windows(band).zip(out.chunks_exact_mut(channels)) {
        most.fill(0.0);
        for pixel in sending.window(pool, band, at) {
            most.iter_mut().zip(&fired[pixel * channels..]).for_each(|(most, f)| *most = most.max(*f));
        }
        match sign > 0.0 {
            true => sums.copy_from_slice(&most),
            false => sums.iter_mut().zip(&most).for_each(|(sum, most)| *sum = most - *sum),
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn spread(sending: &Sending, pool: &Pool, band: &Band, gradient: &[f32], out: &mut [f32]) {
    let channels = sending.neurons.channels;
    out.fill(0.0);
    for (at, each) in sending.windows(band).zip(gradient.chunks_exact(channels)) {
        for pixel in sending.window(pool, band, at) {
            let shares = out[pixel * channels..][..channels].iter_mut().zip(each);
            shares.for_each(|(share, g)| *share += g * sending.share);
        }
    }
}

/// The way back through a pooling over maxima. What a window has sent by step t is M\[t\], the largest count of its neurons,
/// so that it sends M\[t\] - M\[t - 1\] at t; the gradient of a maximum is that of its leader. With g\[t\] the gradient of
/// what is sent, a neuron's spike at t counts in every M\[t'\], t' >= t, that it leads: dL/ds\[t\] is the sum over them of
/// g\[t'\] - g\[t' + 1\].
#[derive(Default)]
pub(super) struct Maxima {
    /// The leader of each window after each step, the first of several, T x windows x C: a neuron of the band.
    leaders: Vec<u32>,
    /// What each neuron's spike counts from the step on that was last gone back through.
    sum: Vec<f32>,
    /// g of the step after, of each window.
    later: Vec<f32>,
    fired: Vec<f32>,
    most: Vec<f32>,
}

impl Maxima {
    /// For a band whose m at a step `m` gives.
    pub fn begin<'a>(
        &mut self,
        sending: &Sending,
        band: &Band,
        steps: usize,
        m: impl Fn(usize) -> &'a [f32],
    ) {
        let Some(pool) = &sending.pool else { return };
        let channels = sending.neurons.channels;
        let neurons = band.rows.len() * sending.neurons.width * channels;
        let windows = band.pooled.len() * sending.pooled.width * channels;
        for (buffer, length) in
            [(&mut self.sum, neurons), (&mut self.fired, neurons), (&mut self.later, windows)]
        {
            buffer.clear();
            buffer.resize(length, 0.0);
        }
        self.leaders.clear();
        self.leaders.resize(steps * windows, 0);
        self.most.resize(channels, 0.0);
        for t in 0..steps {
            let leaders = &mut self.leaders[t * windows..][..windows];
            lead(sending, pool, band, m(t), &mut self.fired, &mut self.most, leaders);
        }
    }

    /// One step back, from the last one downwards: dL/ds from the gradient of what the band sends.
    pub fn back(&mut self, t: usize, gradient: &[f32], out: &mut [f32]) {
        let leaders = &self.leaders[t * gradient.len()..][..gradient.len()];
        for ((g, later), leader) in gradient.iter().zip(&mut self.later).zip(leaders) {
            self.sum[*leader as usize] += g - *later;
            *later = *g;
        }
        out.copy_from_slice(&self.sum);
    }
}

/// One step: counts the spikes, and names each window's leader.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn lead(
    sending: &Sending,
    pool: &Pool,
    band: &Band,
    m: &[f32],
    fired: &mut [f32],
    most: &mut [f32],
    leaders: &mut [u32],
) {
    let channels = sending.neurons.channels;
    fired.iter_mut().zip(m).for_each(|(fired, m)| *fired += if *m > 0.0 { 1.0 } else { 0.0 });
    for (at, leaders) in sending.windows(band).zip(leaders.chunks_exact_mut(channels)) {
        most.fill(f32::NEG_INFINITY);
        for pixel in sending.window(pool, band, at) {
            let each = most.iter_mut().zip(&fired[pixel * channels..]).zip(leaders.iter_mut()).zip(0u32..);
            for (((most, &fired), leader), channel) in each {
                if fired > *most {
                    (*most, *leader) = (fired, (pixel * channels) as u32 + channel);
                }
            }
        }
    }
}
