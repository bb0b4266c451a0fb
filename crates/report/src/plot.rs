//! Axes, legends and colour maps: the parts figures share.

use crate::scene::{Area, Dash, Ink, Scene, Type};
use crate::text;

/// Between the names of two ticks.
const GAP: f64 = 6.0;

/// Values along one side of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub log: bool,
    pub lo: f64,
    pub hi: f64,
    pub ticks: Vec<(f64, String)>,
    pub label: String,
}

impl Axis {
    /// A linear axis over exactly lo..hi, with round ticks inside.
    pub(crate) fn linear(lo: f64, hi: f64, wanted: usize, label: &str) -> Self {
        let hi = if hi > lo { hi } else { lo + 1.0 };
        let step = round_step((hi - lo) / wanted.max(1) as f64);
        let ticks = ticks_between(lo, hi, step);
        Self { log: false, lo, hi, ticks, label: label.to_owned() }
    }

    /// A linear axis from 0, extended to the round tick above `hi`.
    pub(crate) fn from_zero(hi: f64, wanted: usize, label: &str) -> Self {
        Self::rounded(0.0, if hi > 0.0 { hi } else { 1.0 }, wanted, label)
    }

    /// As [`from_zero`](Self::from_zero) for counts: ticks at whole numbers only.
    pub(crate) fn counts(hi: f64, wanted: usize, label: &str) -> Self {
        Self::from_zero(hi.max(wanted as f64), wanted, label)
    }

    /// A linear axis extended to round ticks on both ends.
    pub(crate) fn rounded(lo: f64, hi: f64, wanted: usize, label: &str) -> Self {
        let hi = if hi > lo { hi } else { lo + 1.0 };
        let step = round_step((hi - lo) / wanted.max(1) as f64);
        // A hair of slack, or 0.3 / 0.1 would take one step more.
        let lo = (lo / step + 1e-9).floor() * step;
        let hi = (hi / step - 1e-9).ceil() * step;
        Self { log: false, lo, hi, ticks: ticks_between(lo, hi, step), label: label.to_owned() }
    }

    /// Whole steps or epochs from `lo` to `hi`, ticks at whole numbers only.
    pub(crate) fn whole(lo: f64, hi: f64, wanted: usize, label: &str) -> Self {
        let step = round_step((hi - lo) / wanted.max(1) as f64).max(1.0);
        Self {
            log: false,
            lo,
            hi: hi.max(lo + 1e-9),
            ticks: ticks_between(lo, hi, step),
            label: label.to_owned(),
        }
    }

    /// A logarithmic axis extended to whole decades (`decades`) or to the next 1, 2, 5; both ends above 0.
    pub(crate) fn log(lo: f64, hi: f64, label: &str) -> Self {
        let lo = lo.max(1e-300);
        let hi = hi.max(lo * 1.001);
        let wide = hi / lo > 30.0;
        let (mut ticks, first, last) = (Vec::new(), lo.log10().floor() as i32, hi.log10().ceil() as i32);
        for exponent in first..=last {
            for digit in if wide { &[1.0][..] } else { &[1.0, 2.0, 5.0] } {
                ticks.push(digit * 10_f64.powi(exponent));
            }
        }
        let from = ticks.iter().rposition(|t| *t <= lo * 1.0001).unwrap_or(0);
        let to = ticks.iter().position(|t| *t >= hi * 0.9999).unwrap_or(ticks.len() - 1);
        let (lo, hi) = (ticks[from], ticks[to.max(from)]);
        let ticks = ticks[from..=to.max(from)].iter().map(|t| (*t, text::short(*t))).collect();
        Self { log: true, lo, hi: if hi > lo { hi } else { lo * 10.0 }, ticks, label: label.to_owned() }
    }

    /// Only those ticks that there is room for, `width` wide and named in a type: both ends, then round numbers, then what is left.
    pub(crate) fn with_room(mut self, width: f64, label: Type) -> Self {
        let rank = |i: usize| {
            let value = self.ticks[i].0;
            let digits = value / 10_f64.powf(value.abs().log10().floor());
            let is_round = [1.0, 2.0, 5.0].iter().any(|digit| (digits - digit).abs() < 1e-9);
            (i > 0 && i + 1 < self.ticks.len(), !is_round, digits > 1.5)
        };
        let mut order: Vec<usize> = (0..self.ticks.len()).collect();
        order.sort_by_key(|i| rank(*i));
        let mut placed: Vec<(usize, f64, f64)> = Vec::new();
        for i in order {
            let (value, name) = &self.ticks[i];
            let (at, half) = (self.at(*value) * width, label.width(name) / 2.0 + GAP / 2.0);
            if placed.iter().all(|(_, left, right)| at + half <= *left || at - half >= *right) {
                placed.push((i, at - half, at + half));
            }
        }
        placed.sort_by_key(|(i, ..)| *i);
        self.ticks = placed.iter().map(|(i, ..)| self.ticks[*i].clone()).collect();
        self
    }

    /// Position of a value from 0 to 1 (beyond, if it lies beyond).
    pub(crate) fn at(&self, value: f64) -> f64 {
        if self.log {
            (value.max(1e-300) / self.lo).ln() / (self.hi / self.lo).ln()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.max(1e-300).log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|d| d * power >= rough * 0.9999).unwrap_or(10.0);
    digit * power
}

fn ticks_between(lo: f64, hi: f64, step: f64) -> Vec<(f64, String)> {
    let first = (lo / step - 1e-6).ceil() as i64;
    let last = (hi / step + 1e-6).floor() as i64;
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    let plain = hi.abs().max(lo.abs()) < 10_000.0;
    (first..=last.min(first + 50))
        .map(|i| {
            let value = i as f64 * step;
            (value, if plain { format!("{value:.decimals$}") } else { text::short(value) })
        })
        .collect()
}

/// A plot's area with its axes.
pub(crate) struct Plot {
    pub area: Area,
    pub x: Axis,
    pub y: Axis,
}

impl Plot {
    /// Draw grid, axes, ticks and labels. The y label stands above the axis, the x label below; leave 20 units
    /// above, 36 below and 44 left of the area. Ticks that would collide have no name.
    pub(crate) fn new(scene: &mut Scene<'_>, area: Area, x: Axis, y: Axis) -> Self {
        let label = scene.style.label();
        let mut free = f64::INFINITY;
        for (value, name) in &y.ticks {
            let at = area.bottom() - y.at(*value) * area.h;
            scene.line(vec![(area.x, at), (area.right(), at)], Ink::Grid, 1.0, Dash::Solid);
            if at <= free {
                free = at - 1.25 * label.size;
                scene.text(area.x - 6.0, at + label.drop(), name, label.end());
            }
        }
        x_axis(scene, area, &x);
        if !y.label.is_empty() {
            let left = (area.x - 44.0).max(12.0);
            let shown = text::fit(&y.label, scene.width - left - 4.0, label.size, false);
            scene.text(left, area.y - 11.0, &shown, label);
        }
        Self { area, x, y }
    }
    pub(crate) fn px(&self, value: f64) -> f64 {
        self.area.x + self.x.at(value) * self.area.w
    }
    pub(crate) fn py(&self, value: f64) -> f64 {
        self.area.bottom() - self.y.at(value) * self.area.h
    }
    /// A line through points in values, broken where a value is missing, with a mark at each, or where they are many at some of
    /// them; those of different marks are not at the same places.
    pub(crate) fn series(
        &self,
        scene: &mut Scene<'_>,
        points: &[(f64, f64)],
        ink: Ink,
        dash: Dash,
        mark: Option<usize>,
    ) {
        const APART: f64 = 26.0;
        let width = scene.style.curve();
        for run in points.split(|p| !p.1.is_finite()) {
            let line = run.iter().map(|p| (self.px(p.0), self.py(p.1))).collect();
            scene.line(line, ink, width, dash);
        }
        let Some(mark) = mark else { return };
        let all = points.len() <= 16;
        let mut next = self.area.x + (mark % 3) as f64 * APART / 3.0;
        for p in points.iter().filter(|p| p.1.is_finite()) {
            if all || self.px(p.0) >= next {
                scene.mark(mark, self.px(p.0), self.py(p.1), ink);
                next = self.px(p.0) + APART;
            }
        }
    }
    /// What lies between the ends of intervals (x, low, high): a band, or at a lone point a line with ends.
    pub(crate) fn band(&self, scene: &mut Scene<'_>, intervals: &[(f64, f64, f64)], ink: Ink) {
        let (lo, hi) = (self.y.lo, self.y.hi);
        let at = |x: f64, y: f64| (self.px(x), self.py(y.clamp(lo, hi)));
        if let [(x, low, high)] = intervals {
            let ((x, bottom), (_, top)) = (at(*x, *low), at(*x, *high));
            scene.line(vec![(x, bottom), (x, top)], ink, 1.0, Dash::Solid);
            for end in [bottom, top] {
                scene.line(vec![(x - 3.0, end), (x + 3.0, end)], ink, 1.0, Dash::Solid);
            }
            return;
        }
        let upper = intervals.iter().map(|(x, _, high)| at(*x, *high));
        let lower = intervals.iter().rev().map(|(x, low, _)| at(*x, *low));
        scene.polygon(upper.chain(lower).collect(), ink, scene.style.lines.band_opacity);
    }
    /// A band for each stretch of known intervals (x, low and high) of a series. One that reaches 0 has no place on a logarithmic axis, a
    /// lone one among others no width.
    pub(crate) fn bands(&self, scene: &mut Scene<'_>, intervals: &[(f64, Option<(f64, f64)>)], ink: Ink) {
        let shown = |ends: Option<(f64, f64)>| ends.filter(|(low, _)| !self.y.log || *low > 0.0);
        for stretch in intervals.split(|(_, ends)| shown(*ends).is_none()) {
            let known = stretch.iter().filter_map(|(x, ends)| ends.map(|(low, high)| (*x, low, high)));
            let known: Vec<_> = known.collect();
            if known.len() > 1 || (known.len() == 1 && intervals.len() == 1) {
                self.band(scene, &known, ink);
            }
        }
    }
    /// A horizontal line over the whole width.
    pub(crate) fn level(&self, scene: &mut Scene<'_>, value: f64, ink: Ink, dash: Dash) {
        let y = self.py(value);
        scene.line(vec![(self.area.x, y), (self.area.right(), y)], ink, 1.2, dash);
    }
}

/// The x axis of an area: base line, ticks (those that would collide are left out) and label.
pub(crate) fn x_axis(scene: &mut Scene<'_>, area: Area, x: &Axis) {
    let bottom = area.bottom();
    let label = scene.style.label();
    scene.line(vec![(area.x, bottom), (area.right(), bottom)], Ink::Axis, 1.0, Dash::Solid);
    let mut free = f64::NEG_INFINITY;
    let stride = stride(x, area.w, |name| label.width(name));
    // 1 is among those of a logarithmic axis.
    let one = x.ticks.iter().position(|tick| x.log && tick.0 == 1.0).unwrap_or_default();
    for (value, name) in x.ticks.iter().skip(one % stride).step_by(stride) {
        let at = area.x + x.at(*value) * area.w;
        let half = label.width(name) / 2.0;
        if at - half < free {
            continue;
        }
        free = at + half + GAP;
        scene.line(vec![(at, bottom), (at, bottom + 4.0)], Ink::Axis, 1.0, Dash::Solid);
        // The last one's name must not leave the figure.
        scene.text(at.min(scene.width - half - 2.0), bottom + 16.0, name, label.middle());
    }
    if !x.label.is_empty() {
        let shown = text::fit(&x.label, area.w + 40.0, label.size, false);
        scene.text(area.x + area.w / 2.0, bottom + 32.0, &shown, label.middle());
    }
}

/// Every how many of an axis' ticks there is room for, if they are evenly spaced: then those that are named are too.
fn stride(x: &Axis, width: f64, text_width: impl Fn(&str) -> f64) -> usize {
    let at: Vec<f64> = x.ticks.iter().map(|(value, _)| x.at(*value) * width).collect();
    let apart = at.get(1).zip(at.first()).map_or(0.0, |(b, a)| b - a);
    if apart <= 0.0 || at.windows(2).any(|pair| (pair[1] - pair[0] - apart).abs() > 0.5) {
        return 1;
    }
    let widest = x.ticks.iter().map(|(_, name)| text_width(name)).fold(0.0, f64::max);
    ((widest + GAP) / apart).ceil().max(1.0) as usize
}

/// How an entry looks in a legend.
#[derive(Clone, Copy)]
pub(crate) enum Swatch {
    /// A line, with the mark of a series.
    Line(Ink, Dash, Option<usize>),
    /// A mark alone.
    Mark(Ink, usize),
    /// A filled box, and how much it covers.
    Box(Ink, f64),
}

/// A legend in as many lines as it needs, from y downwards; returns its height.
pub(crate) fn legend(scene: &mut Scene<'_>, x: f64, y: f64, width: f64, entries: &[(Swatch, String)]) -> f64 {
    const LINE: f64 = 18.0;
    let value = scene.style.value();
    let (mut at, mut top) = (x, y);
    for (swatch, name) in entries {
        let name = text::fit(name, width - 40.0, value.size, false);
        let sample = if matches!(swatch, Swatch::Line(..)) { 26.0 } else { 12.0 };
        let room = sample + 6.0 + value.width(&name);
        if at > x && at + room > x + width {
            at = x;
            top += LINE;
        }
        let middle = top + LINE / 2.0;
        match swatch {
            Swatch::Line(ink, dash, mark) => {
                scene.line(vec![(at, middle), (at + sample, middle)], *ink, scene.style.curve(), *dash);
                if let Some(mark) = mark {
                    scene.mark(*mark, at + sample / 2.0, middle, *ink);
                }
            }
            Swatch::Mark(ink, mark) => scene.mark(*mark, at + sample / 2.0, middle, *ink),
            Swatch::Box(ink, opacity) => {
                let (right, top, bottom) = (at + sample, middle - 5.0, middle + 5.0);
                let corners = vec![(at, top), (right, top), (right, bottom), (at, bottom)];
                scene.polygon(corners, *ink, *opacity);
            }
        }
        scene.text(at + sample + 6.0, middle + value.drop(), &name, value);
        at += room + 14.0;
    }
    top + LINE - y
}

/// Colours for values, light where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Colours {
    /// 0 to 1: white to dark blue.
    Sequential,
    /// 0 to 1: white to a layer's colour.
    Tint([u8; 3]),
    /// -1 to 1: blue over white to red.
    Diverging,
}

const BLUES: [[u8; 3]; 5] = [[255, 255, 255], [198, 219, 239], [107, 174, 214], [33, 113, 181], [8, 40, 92]];
const BLUE_RED: [[u8; 3]; 7] = [
    [24, 74, 150],
    [67, 147, 195],
    [178, 212, 234],
    [252, 252, 252],
    [250, 199, 172],
    [214, 96, 77],
    [160, 16, 40],
];

impl Colours {
    /// The colour of a value; beyond the ends, that of the end; grey for a missing one.
    pub(crate) fn of(self, value: f64) -> [u8; 3] {
        if !value.is_finite() {
            return [225, 225, 225];
        }
        let tints;
        let (stops, at) = match self {
            Self::Sequential => (&BLUES[..], value),
            Self::Tint(rgb) => {
                tints = [[255; 3], rgb];
                (&tints[..], value)
            }
            Self::Diverging => (&BLUE_RED[..], (value + 1.0) / 2.0),
        };
        let at = at.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let below = (at.floor() as usize).min(stops.len() - 2);
        let share = at - below as f64;
        let mix = |i: usize| {
            (f64::from(stops[below][i]) * (1.0 - share) + f64::from(stops[below + 1][i]) * share).round()
                as u8
        };
        [mix(0), mix(1), mix(2)]
    }

    /// Black or white, whichever reads on the colour of a value.
    pub(crate) fn ink_on(self, value: f64) -> Ink {
        let [r, g, b] = self.of(value).map(f64::from);
        Ink::Rgb(if 0.299 * r + 0.587 * g + 0.114 * b > 140.0 { [20, 24, 28] } else { [255, 255, 255] })
    }

    /// A vertical bar with the ends' names, 12 wide, ticks to its right.
    pub(crate) fn bar(self, scene: &mut Scene<'_>, area: Area, axis: &Axis) {
        let label = scene.style.label();
        const CELLS: usize = 128;
        let colours = (0..CELLS).map(|i| {
            let share = 1.0 - (i as f64 + 0.5) / CELLS as f64;
            self.of(if self == Self::Diverging { 2.0 * share - 1.0 } else { share })
        });
        let colours = colours.collect();
        scene.map(|scene| scene.image(area, 1, CELLS, colours));
        outline(scene, area);
        for (value, name) in &axis.ticks {
            let y = area.bottom() - axis.at(*value) * area.h;
            scene.line(vec![(area.right(), y), (area.right() + 4.0, y)], Ink::Axis, 1.0, Dash::Solid);
            // What is too long for the margin is shortened.
            let short = text::short(*value);
            let name = if label.width(name) > 32.0 { &short } else { name };
            scene.text(area.right() + 7.0, y + label.drop(), name, label);
        }
        scene.text(area.right() + 34.0, area.y - 9.0, &axis.label, label.end());
    }
}

/// A thin frame around an image.
pub(crate) fn outline(scene: &mut Scene<'_>, area: Area) {
    let (l, t, r, b) = (area.x, area.y, area.right(), area.bottom());
    scene.line(vec![(l, t), (r, t), (r, b), (l, b), (l, t)], Ink::Axis, 1.0, Dash::Solid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Style;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn ticks_that_there_is_room_for() {
        let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 28.0, 50.0, 75.0, 100.0, 200.0, 300.0];
        let ticks = steps.iter().map(|t: &f64| (*t, t.to_string())).collect();
        let axis = Axis { log: true, lo: 0.9, hi: 345.0, ticks, label: String::new() };
        let chosen = axis.with_room(335.0, Style::default().label());
        assert_eq!(names(&chosen), ["1", "2", "3", "5", "10", "28", "50", "100", "300"]);
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(names(&Axis::linear(0.0, 1.0, 5, "")), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(names(&Axis::from_zero(358_400.0, 4, "")), ["0", "100k", "200k", "300k", "400k"]);
        assert_eq!(names(&Axis::whole(1.0, 3.0, 8, "")), ["1", "2", "3"]);
        assert_eq!(
            names(&Axis::rounded(0.28, 0.77, 5, "")),
            ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"][..]
        );
        assert_eq!(names(&Axis::log(3.0, 4.0e6, "")), ["1", "10", "100", "1k", "10k", "100k", "1M", "10M"]);
        assert_eq!(names(&Axis::log(3.0, 30.0, "")), ["2", "5", "10", "20", "50"]);
    }

    #[test]
    fn odd_ranges_still_make_an_axis() {
        for axis in [
            Axis::linear(1.0, 1.0, 5, ""),
            Axis::from_zero(0.0, 5, ""),
            Axis::rounded(2.0, 2.0, 5, ""),
            Axis::log(1.0, 1.0, ""),
            Axis::log(0.0, 0.0, ""),
            Axis::whole(1.0, 1.0, 5, ""),
        ] {
            assert!(axis.hi > axis.lo && axis.at(axis.lo).abs() < 1e-9 && !axis.ticks.is_empty(), "{axis:?}");
        }
    }

    #[test]
    fn colours_run_from_end_to_end() {
        assert_eq!(Colours::Sequential.of(0.0), [255, 255, 255]);
        assert_eq!(Colours::Sequential.of(7.0), BLUES[4]);
        assert_eq!(Colours::Diverging.of(0.0), BLUE_RED[3]);
        assert_eq!(Colours::Diverging.of(-1.0), BLUE_RED[0]);
        assert_eq!(Colours::Diverging.of(f64::NAN), [225; 3]);
        assert_eq!(
            [0.0, 0.5, 1.0].map(|v| Colours::Tint([55, 155, 255]).of(v)),
            [[255; 3], [155, 205, 255], [55, 155, 255]]
        );
    }

    #[test]
    fn a_band_goes_around_its_points_and_a_lone_point_has_whiskers() {
        let style = Style::default();
        let mut scene = Scene::new(&style, 200.0, "");
        let area = Area::new(50.0, 20.0, 100.0, 100.0);
        let plot = Plot::new(&mut scene, area, Axis::linear(0.0, 10.0, 5, ""), Axis::linear(0.0, 1.0, 5, ""));
        scene.items.clear();
        plot.band(&mut scene, &[(0.0, 0.2, 0.4), (10.0, 0.5, 2.0)], Ink::Text);
        let crate::scene::Item::Polygon { points, opacity, .. } = &scene.items[0] else {
            panic!("{:?}", scene.items)
        };
        assert_eq!(*opacity, style.lines.band_opacity);
        let rounded: Vec<(i64, i64)> =
            points.iter().map(|p| (p.0.round() as i64, p.1.round() as i64)).collect();
        // Up to the axis' end and no farther.
        assert_eq!(rounded, [(50, 80), (150, 20), (150, 70), (50, 100)]);
        scene.items.clear();
        plot.band(&mut scene, &[(5.0, 0.2, 0.4)], Ink::Text);
        assert_eq!(scene.items.len(), 3);
        // Two stretches; of the one that reaches 0 nothing on a logarithmic axis.
        let intervals = [
            (0.0, Some((0.0, 0.4))),
            (1.0, Some((0.1, 0.4))),
            (2.0, None),
            (3.0, Some((0.2, 0.4))),
            (4.0, Some((0.2, 0.4))),
        ];
        let polygons = |plot: &Plot, scene: &mut Scene<'_>| {
            scene.items.clear();
            plot.bands(scene, &intervals, Ink::Text);
            scene.items.iter().filter(|item| matches!(item, crate::scene::Item::Polygon { .. })).count()
        };
        assert_eq!(polygons(&plot, &mut scene), 2);
        let plot = Plot::new(&mut scene, area, Axis::linear(0.0, 10.0, 5, ""), Axis::log(0.01, 1.0, ""));
        assert_eq!(polygons(&plot, &mut scene), 1);
    }
}
