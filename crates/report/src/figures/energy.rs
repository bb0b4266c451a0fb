//! Energy of ANN and spiking network, in parts and step by step.

use std::collections::{BTreeMap, HashMap};

use escape_energy::{ANN, PUBLISHED};
use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan, across, page_stem, pages};
use crate::error::ReportError;
use crate::interval::Spread;
use crate::plot::{Axis, Plot, Swatch, legend, x_axis};
use crate::routes::Route;
use crate::rows::{Energy, EnergyStep, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene};
use crate::seeds::{OtherSeeds, band_note, seeds_of};
use crate::standing::{Worthless, worthless_network};
use crate::style::Style;
use crate::tally::{Tally, is_ann};
use crate::text;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Part {
    model: String,
    network: String,
    route: Route,
    component: String,
    picojoules: f64,
    normalised: f64,
    /// Why a saving would mean nothing, if so.
    remark: String,
    /// Of the network's total, as `normalised`: mean over the seeds of a study, and a standard deviation to either side.
    #[serde(default)]
    total: Option<f64>,
    #[serde(default)]
    low: Option<f64>,
    #[serde(default)]
    high: Option<f64>,
}

/// Components with their marks; others follow.
const COMPONENTS: [(&str, usize); 7] = [
    ("multiply_accumulate", 5),
    ("accumulate", 6),
    ("membrane", 7),
    ("requantise", 1),
    ("weight_memory", 2),
    ("state_memory", 3),
    ("addressing", 4),
];
/// Networks times ways of counting that one figure has room for on a page.
const MOST: usize = 90;
/// Spiking networks of a figure, at most.
const PAGE: usize = 14;
/// Pairs of networks that a caption names, at most.
const NAMED: usize = 8;
/// A component's least share of a total that is drawn.
const LEAST: f64 = 0.01;
/// The lowest end of an axis of energies, of its highest value.
const LOWEST: f64 = 1e-5;

fn mark(component: &str) -> usize {
    COMPONENTS.iter().find(|(key, _)| *key == component).map_or(1, |(_, mark)| *mark)
}

/// A network's energy over the seeds of a study, of `whole`, at the T of the energy table.
fn over_seeds(run: &Run, model: &str, network: &str, whole: f64) -> Option<Spread> {
    let steps = run.activity_of(network).first()?.timesteps;
    let own = run.outcome_energy.iter().flatten();
    let own = own.filter(|e| e.model == model && e.network == network && e.timesteps == steps);
    Spread::of(&own.map(|e| e.picojoules / whole).collect::<Vec<_>>())
}

pub(super) fn add_components(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 7";
    if !gallery.has(run, ITEM, &[Energy::FILE]) {
        return Ok(());
    }
    let rows = run.energy.as_deref().unwrap_or_default();
    let tally = Tally::of(run);
    let others = OtherSeeds::of(run, |seed| {
        let mut sums = HashMap::new();
        for row in seed.energy.iter().flatten() {
            let key = (row.model.clone(), row.network.clone(), row.component.clone());
            *sums.entry(key).or_insert(0.0) += row.picojoules;
        }
        sums
    });
    let mut remarks: HashMap<String, &str> = HashMap::new();
    let mut parts = Vec::new();
    for model in tally.models() {
        let Some(whole) = tally.total(&model, ANN).filter(|w| *w > 0.0) else { continue };
        for network in tally.networks(&model) {
            let of = || rows.iter().filter(|r| r.model == model && r.network == network);
            let spread = over_seeds(run, &model, &network, whole).filter(|s| s.deviation.is_some());
            let interval = spread.and_then(|s| s.interval());
            let worth = || worthless_network(run, &network).map_or("", Worthless::words);
            let remark = *remarks.entry(network.clone()).or_insert_with(worth);
            let reached = seeds_of(run, &network).len() > 1;
            for component in distinct(of().map(|r| r.component.as_str())) {
                let first: f64 = of().filter(|r| r.component == component).map(|r| r.picojoules).sum();
                let key = (model.clone(), network.clone(), component.clone());
                let picojoules = others.with(first, &key, reached).mean;
                parts.push(Part {
                    model: model.clone(),
                    network: network.clone(),
                    route: Route::of_network(run, &network),
                    component,
                    picojoules,
                    normalised: picojoules / whole,
                    remark: remark.to_owned(),
                    total: interval.map(|i| i.value),
                    low: interval.map(|i| i.low),
                    high: interval.map(|i| i.high),
                });
            }
        }
    }
    if parts.is_empty() {
        gallery.leave_out(ITEM, &[Energy::FILE], "has no model with a network `ann` to compare with");
        return Ok(());
    }
    // Of many networks, what counts memory too is a figure of its own, or one would be longer than a page.
    let networks = distinct(parts.iter().map(|p| p.network.as_str())).len();
    let models = distinct(parts.iter().map(|p| p.model.as_str())).len();
    let (memory, plain): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|p| networks * models > MOST && p.model.contains('+'));
    // Every page has the ANNs.
    let spiking = distinct(plain.iter().map(|p| p.network.as_str()).filter(|name| !is_ann(name)));
    let mut shown = Vec::new();
    for (stem, parts) in [("fig7_energy", plain), ("fig7_energy_memory", memory)] {
        for (i, page) in pages(&spiking, PAGE).iter().enumerate() {
            let here = parts.iter().filter(|p| is_ann(&p.network) || page.contains(&p.network));
            shown.push((page_stem(stem, i), here.cloned().collect::<Vec<Part>>()));
        }
    }
    for (stem, parts) in shown {
        if parts.is_empty() {
            continue;
        }
        let published = if parts.iter().any(|p| p.model == PUBLISHED) {
            " The published formula counts the convolutions only."
        } else {
            ""
        };
        let seeds = match (parts.iter().any(|p| p.total.is_some()), run.other_seeds.is_empty()) {
            (true, true) => {
                " Totals are means over the seeds, lines through them one standard deviation to either side (mostly hidden by the disk); \
                 what they consist of is of the first seed."
            }
            (true, false) => {
                " Of networks that several seeds reach: means over them, and lines through the totals of spiking ones of one standard deviation \
                 to either side (mostly hidden by the disk)."
            }
            (false, _) => "",
        };
        let plan = Plan {
            chapter: Chapter::Energy,
            stem,
            label: ITEM,
            caption: format!(
                "Energy per recording relative to the full-precision ANN (dashed line: 1), for each way of counting, on one logarithmic \
                 axis: disks with their values are totals, in the colour of the network's route; grey marks are what a total \
                 consists of, where that is a hundredth of it or more.{published}{seeds}"
            ),
        };
        gallery.add(plan, &parts)?;
    }
    Ok(())
}

impl Drawn for Part {
    fn draw<'s>(parts: &[Self], style: &'s Style) -> Scene<'s> {
        const ROW: f64 = 15.0;
        /// For a value at the right of its disk.
        const VALUE: f64 = 36.0;
        const GAP: f64 = 10.0;
        let (words, value) = (style.words(), style.value());
        let mut scene = Scene::new(style, 0.0, words.energy_title);
        let used = distinct(parts.iter().map(|p| p.component.as_str()));
        let known = COMPONENTS.iter().map(|(key, _)| *key).filter(|key| used.iter().any(|u| u == key));
        let other = used.iter().map(String::as_str).filter(|u| COMPONENTS.iter().all(|(key, _)| key != u));
        let names = known
            .chain(other)
            .map(|key| (Swatch::Mark(Ink::Muted, mark(key)), words.component(key).to_owned()));
        let entries: Vec<_> =
            [(Swatch::Mark(Ink::Text, 0), words.total.to_owned())].into_iter().chain(names).collect();
        let (width, start) = (scene.width, scene.top());
        let mut top = start + legend(&mut scene, 12.0, start, width - 24.0, &entries) + 6.0;

        let models = distinct(parts.iter().map(|p| p.model.as_str()));
        let mut networks = distinct(parts.iter().map(|p| p.network.as_str()));
        networks.sort_by_key(|name| !is_ann(name));
        let of = |model: &str, network: &str| -> Vec<&Self> {
            parts.iter().filter(|p| p.model == model && p.network == network).collect()
        };
        let sum = |parts: &[&Self]| {
            let mean = parts.first().and_then(|p| p.total);
            mean.unwrap_or_else(|| parts.iter().map(|p| p.normalised).sum::<f64>())
        };
        let names =
            networks.iter().map(|n| value.width(&words.network(n))).fold(0.0, f64::max).min(124.0) + 8.0;
        let per_row = across(width, 190.0).min(models.len().max(1));
        let panel = (width - 24.0 - names) / per_row as f64;
        let (mut lo, mut hi) = (1.0_f64, 1.0_f64);
        for (model, network) in models.iter().flat_map(|m| networks.iter().map(move |n| (m, n))) {
            let parts = of(model, network);
            let total = sum(&parts);
            let seen = parts.iter().map(|p| p.normalised).filter(|v| *v >= LEAST * total && *v > 0.0);
            lo = seen.fold(if total > 0.0 { lo.min(total) } else { lo }, f64::min);
            hi = parts.iter().filter_map(|p| p.high).fold(hi.max(total), f64::max);
        }
        let x = Axis::log(lo, hi, "");
        for (i, row) in models.chunks(per_row).enumerate() {
            let y = top + 24.0;
            let height = ROW * networks.len() as f64;
            for (n, network) in networks.iter().enumerate() {
                let middle = y + (n as f64 + 0.5) * ROW;
                let name = text::fit(&words.network(network), names - 8.0, value.size, false);
                scene.text(12.0 + names - 8.0, middle + value.drop(), &name, value.end());
            }
            for (k, model) in row.iter().enumerate() {
                let left = 12.0 + names + k as f64 * panel;
                let area = Area::new(left, y, panel - VALUE - GAP, height);
                let at = |value: f64| area.x + x.at(value) * area.w;
                let title = text::fit(&words.short_model(model), panel - 4.0, style.panel().size, true);
                scene.text(left, top + 14.0, &title, style.panel());
                for (tick, _) in &x.ticks {
                    scene.line(vec![(at(*tick), y), (at(*tick), y + height)], Ink::Grid, 1.0, Dash::Solid);
                }
                scene.line(vec![(at(1.0), y), (at(1.0), y + height)], Ink::Text, 1.0, Dash::Dashed);
                for (n, network) in networks.iter().enumerate() {
                    let middle = y + (n as f64 + 0.5) * ROW;
                    let parts = of(model, network);
                    let total = sum(&parts);
                    let Some(first) = parts.first().filter(|_| total > 0.0) else { continue };
                    if parts.len() > 1 {
                        for part in
                            parts.iter().filter(|p| p.normalised >= LEAST * total && p.normalised > 0.0)
                        {
                            scene.mark(mark(&part.component), at(part.normalised), middle, Ink::Muted);
                        }
                    }
                    if let Some((low, high)) = first.low.zip(first.high) {
                        let ends = [low, high].map(|end| (at(end.max(x.lo)), middle));
                        scene.line(ends.to_vec(), Ink::Route(first.route), 1.0, Dash::Solid);
                    }
                    scene.mark(0, at(total), middle, Ink::Route(first.route));
                    let star = if first.remark.is_empty() { "" } else { "*" };
                    let digits =
                        if (total - 1.0).abs() < 1e-9 { "1".to_owned() } else { text::rounded(total, 2) };
                    let shown = format!("{digits}{star}");
                    // Right of the disk, and of the dashed line if that would cross it.
                    let left = at(total) + 6.0;
                    let crossed = (left - 2.0..left + value.width(&shown) + 2.0).contains(&at(1.0));
                    let left = if crossed { at(1.0) + 5.0 } else { left };
                    scene.text(left, middle + value.drop(), &shown, value);
                }
                x_axis(&mut scene, area, &x);
            }
            top = y + height + if (i + 1) * per_row < models.len() { 28.0 } else { 22.0 };
        }
        let label = text::fit(words.relative_energy, width - 24.0, style.label().size, false);
        scene.text(width / 2.0, top + 12.0, &label, style.label().middle());
        top += 20.0;
        if parts.iter().any(|p| !p.remark.is_empty()) {
            let note = text::fit(words.worthless, width - 24.0, value.size, false);
            scene.text(12.0, top + 12.0, &note, value);
            top += 18.0;
        }
        scene.height = top + 2.0;
        scene
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spent {
    model: String,
    network: String,
    route: Route,
    step: u32,
    /// Of a study the mean over the seeds, and one standard deviation to either side.
    picojoules: f64,
    #[serde(default)]
    low: Option<f64>,
    #[serde(default)]
    high: Option<f64>,
    /// The network's mark; in tables of before by its place.
    #[serde(default)]
    mark: Option<usize>,
}

/// What was spent up to each step: by the table, and by the published formula.
fn spent(run: &Run) -> Vec<Spent> {
    let places = run.places();
    let row = |s: &EnergyStep| Spent {
        model: s.model.clone(),
        network: s.network.clone(),
        route: Route::of_network(run, &s.network),
        step: s.step,
        picojoules: s.picojoules,
        low: None,
        high: None,
        mark: places.get(&s.network).copied(),
    };
    let mut table = published_steps(run);
    table.extend(run.energy_steps.iter().flatten().map(row));
    table
}

/// The published formula step by step: a layer's energy is proportional to the spikes that it fired, so by each step it has spent the
/// share of its spikes until then. Where the table has it, that is taken.
fn published_steps(run: &Run) -> Vec<Spent> {
    let given = run.energy_steps.iter().flatten().any(|s| s.model == PUBLISHED);
    let energy = || run.energy.iter().flatten().filter(|e| e.model == PUBLISHED);
    if given {
        return Vec::new();
    }
    let (mut spent, places) = (Vec::new(), run.places());
    for network in distinct(energy().map(|e| e.network.as_str())) {
        let route = Route::of_network(run, &network);
        let row = |step, picojoules| Spent {
            model: PUBLISHED.to_owned(),
            network: network.clone(),
            route,
            step,
            picojoules,
            low: None,
            high: None,
            mark: places.get(&network).copied(),
        };
        let of_network = || energy().filter(|e| e.network == network);
        if is_ann(&network) {
            spent.push(row(0, of_network().map(|e| e.picojoules).sum()));
            continue;
        }
        let fired: Vec<_> = run.steps.iter().flatten().filter(|s| s.network == network).collect();
        let Some(last) = fired.iter().map(|s| s.step).max() else { continue };
        let mut by_step = vec![0.0; last as usize + 1];
        for part in of_network() {
            let of_layer: Vec<_> = fired.iter().filter(|s| s.layer == part.layer).collect();
            let all: f64 = of_layer.iter().map(|s| s.spikes_per_sample).sum();
            for step in of_layer.iter().filter(|_| all > 0.0) {
                by_step[step.step as usize] += part.picojoules * step.spikes_per_sample / all;
            }
        }
        let mut sum = 0.0;
        spent.extend(by_step.iter().enumerate().map(|(step, picojoules)| {
            sum += picojoules;
            row(step as u32, sum)
        }));
    }
    spent
}

pub(super) fn add_steps(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 8";
    if !gallery.has(run, ITEM, &[EnergyStep::FILE]) {
        return Ok(());
    }
    let steps = run.energy_steps.as_deref().unwrap_or_default();
    if !steps.iter().any(|s| !is_ann(&s.network)) {
        gallery.leave_out(ITEM, &[EnergyStep::FILE], "has no row of a spiking network");
        return Ok(());
    }
    let others = OtherSeeds::of(run, |seed| {
        spent(seed).into_iter().map(|s| ((s.model, s.network, s.step), s.picojoules)).collect()
    });
    let mut table = spent(run);
    for s in &mut table {
        let key = (s.model.clone(), s.network.clone(), s.step);
        let spread = others.with(s.picojoules, &key, seeds_of(run, &s.network).len() > 1);
        let interval = spread.interval();
        (s.picojoules, s.low, s.high) = (spread.mean, interval.map(|i| i.low), interval.map(|i| i.high));
    }
    let same = coinciding(&table);
    let same = if same.is_empty() {
        String::new()
    } else {
        let pairs: Vec<String> = same.iter().map(|(a, b)| format!("{a} and {b}")).collect();
        format!(
            " So near to each other in a panel that one lies upon the other, the second therefore dashed and with open marks: {}.",
            text::listed(&pairs, NAMED)
        )
    };
    let plan = Plan {
        chapter: Chapter::Energy,
        stem: "fig8_energy_steps".to_owned(),
        label: ITEM,
        caption: format!(
            "Energy spent per recording up to each step of the simulation, for each way of counting (logarithmic axes). \
             ANNs compute once: theirs are the level lines. Colours are routes, marks are networks.{same}{}",
            band_note(run)
        ),
    };
    gallery.add(plan, &table)
}

/// Pairs of spiking networks whose lines cannot be told apart by one way of counting, as far as both run: on an axis of some decades
/// a line is as wide as such a difference.
fn coinciding(table: &[Spent]) -> Vec<(String, String)> {
    const NEAR: f64 = 1.06;
    let networks = distinct(table.iter().filter(|s| !is_ann(&s.network)).map(|s| s.network.as_str()));
    let models = distinct(table.iter().map(|s| s.model.as_str()));
    let mut spent: HashMap<(&str, &str), BTreeMap<u32, f64>> = HashMap::new();
    for s in table.iter().filter(|s| s.picojoules > 0.0) {
        spent.entry((&s.model, &s.network)).or_default().insert(s.step, s.picojoules);
    }
    let upon = |model: &String, a: &String, b: &String| {
        let lines = spent.get(&(model.as_str(), a.as_str())).zip(spent.get(&(model.as_str(), b.as_str())));
        let Some((a, b)) = lines else { return false };
        let mut shared = a.iter().filter_map(|(step, value)| Some(value / b.get(step)?)).peekable();
        shared.peek().is_some() && shared.all(|ratio| (1.0 / NEAR..=NEAR).contains(&ratio))
    };
    let mut pairs = Vec::new();
    for (i, a) in networks.iter().enumerate() {
        for b in &networks[i + 1..] {
            if models.iter().any(|model| upon(model, a, b)) {
                pairs.push((a.clone(), b.clone()));
            }
        }
    }
    pairs
}

impl Drawn for Spent {
    fn draw<'s>(steps: &[Self], style: &'s Style) -> Scene<'s> {
        let words = style.words();
        let mut networks = distinct(steps.iter().map(|s| s.network.as_str()));
        networks.sort_by_key(|n| is_ann(n));
        let route = |name: &str| steps.iter().find(|s| s.network == name).map_or(Route::Other, |s| s.route);
        let spiking = networks.iter().filter(|name| !is_ann(name)).count();
        let same = coinciding(steps);
        // A line upon another is dashed, and its marks are open.
        let upon = |name: &str| same.iter().any(|(_, b)| b == name);
        let look: Vec<(&str, Ink, Dash, Option<usize>)> = networks
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let ink = Ink::Route(route(name));
                if is_ann(name) {
                    return (name.as_str(), ink, Dash::level(i - spiking), None);
                }
                let (dash, open) = if upon(name) { (Dash::Dashed, 4) } else { (Dash::Solid, 0) };
                let place = steps.iter().find(|s| s.network == *name).and_then(|s| s.mark).unwrap_or(i);
                (name.as_str(), ink, dash, Some(place % 4 + open))
            })
            .collect();
        let mut scene = Scene::new(style, 0.0, words.energy_steps_title);
        let entries: Vec<_> = look
            .iter()
            .map(|(name, ink, dash, mark)| (Swatch::Line(*ink, *dash, *mark), words.network(name)))
            .collect();
        let (width, top) = (scene.width, scene.top());
        let start = top + legend(&mut scene, 12.0, top, width - 24.0, &entries) + 4.0;
        let models = distinct(steps.iter().map(|s| s.model.as_str()));
        let length =
            |name: &str| steps.iter().filter(|s| s.network == name).map(|s| s.step + 1).max().unwrap_or(1);
        let lengths = || networks.iter().filter(|name| !is_ann(name)).map(|name| length(name));
        let (shortest, last) = (lengths().min().unwrap_or(1), lengths().max().unwrap_or(1));
        // Beside long simulations, short ones need a logarithmic axis to be seen.
        let steps_axis = if last > shortest.saturating_mul(8) {
            let x = Axis::log(1.0, f64::from(last), words.steps_run);
            let ticks = x.ticks.into_iter().filter(|t| t.0 <= f64::from(last)).collect();
            Axis { lo: 0.85, hi: f64::from(last) * 1.1, ticks, ..x }
        } else if last > 1 {
            Axis::whole(1.0, f64::from(last), 4, words.steps_run)
        } else {
            Axis::whole(0.5, 1.5, 4, words.steps_run)
        };
        let per_row = across(width, 190.0);
        let (panel, down) = (width / per_row as f64, 206.0);
        // One unit in all panels: that of what most networks spend in the end.
        let mut ends: Vec<f64> = (models.iter())
            .flat_map(|model| networks.iter().map(move |network| (model, network)))
            .filter_map(|(model, network)| {
                let own = steps.iter().filter(|s| s.model == *model && s.network == *network);
                own.map(|s| s.picojoules).reduce(f64::max)
            })
            .collect();
        ends.sort_by(f64::total_cmp);
        let (scale, unit) = text::energy_unit(ends.get(ends.len() / 2).copied().unwrap_or(1.0));
        for (i, model) in models.iter().enumerate() {
            let (left, top) = ((i % per_row) as f64 * panel, start + (i / per_row) as f64 * down);
            let area = Area::new(left + 52.0, top + 42.0, panel - 52.0 - 10.0, 120.0);
            let of = |network: &str| {
                let mut line: Vec<&Self> = steps
                    .iter()
                    .filter(|s| s.model == *model && s.network == network && s.picojoules > 0.0)
                    .collect();
                line.sort_by_key(|s| s.step);
                line
            };
            let own = || steps.iter().filter(|s| s.model == *model);
            let values = || own().flat_map(|s| [Some(s.picojoules), s.high]).flatten().filter(|v| *v > 0.0);
            let (lo, hi) =
                values().fold((f64::INFINITY, 0.0), |(lo, hi): (f64, f64), v| (lo.min(v), hi.max(v)));
            // Next to nothing of the first steps would take most of the axis.
            let (lo, hi) = if hi > 0.0 { (lo.max(hi * LOWEST), hi) } else { (1.0, 10.0) };
            let title = text::fit(&words.model(model), panel - 16.0, style.panel().size, true);
            scene.text(left + 12.0, top + 14.0, &title, style.panel());
            let y = Axis::log(lo / scale, hi / scale, &format!("{unit} {}", words.per_recording));
            let plot = Plot::new(&mut scene, area, steps_axis.clone(), y);
            for (network, ink, dash, mark) in &look {
                let drawn: Vec<&Self> = of(network).into_iter().filter(|s| s.picojoules >= lo).collect();
                let x = |s: &Self| f64::from(s.step + 1);
                let line: Vec<_> = drawn.iter().map(|s| (x(s), s.picojoules / scale)).collect();
                match line.last() {
                    Some((_, value)) if is_ann(network) => plot.level(&mut scene, *value, *ink, *dash),
                    Some(_) => {
                        let ends =
                            |s: &Self| s.low.zip(s.high).map(|(low, high)| (low / scale, high / scale));
                        let intervals: Vec<_> = drawn.iter().map(|s| (x(s), ends(s))).collect();
                        plot.bands(&mut scene, &intervals, *ink);
                        plot.series(&mut scene, &line, *ink, *dash, *mark);
                    }
                    None => {}
                }
            }
        }
        scene.height = start + models.len().div_ceil(per_row) as f64 * down - 2.0;
        scene
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(network: &str, step: u32, picojoules: f64) -> Spent {
        let (model, network) = ("fp32".to_owned(), network.to_owned());
        Spent { model, network, route: Route::Other, step, picojoules, low: None, high: None, mark: None }
    }

    #[test]
    fn networks_that_coincide_are_found() {
        let table = [
            spent("ann", 0, 9.0),
            spent("a", 0, 1.0),
            spent("a", 1, 2.0),
            spent("b", 0, 1.001),
            spent("c", 0, 1.0),
            spent("c", 1, 3.0),
            // Nearly the same by one way of counting is enough.
            Spent { model: "int8".to_owned(), ..spent("a", 0, 1.0) },
            Spent { model: "int8".to_owned(), ..spent("d", 0, 1.05) },
        ];
        let pairs: Vec<_> = coinciding(&table);
        let names: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(names, [("a", "b"), ("a", "d"), ("b", "c")]);
    }
}
