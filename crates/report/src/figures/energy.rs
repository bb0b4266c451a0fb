//! Energy of ANN and spiking network, in parts and step by step.

use escape_energy::ANN;
use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH};
use crate::error::ReportError;
use crate::plot::{Axis, Plot, Swatch, legend, x_axis};
use crate::rows::{Energy, EnergyStep, Row};
use crate::run::{Run, distinct};
use crate::scene::{ANN_SERIES, Area, Dash, Ink, Scene, Type};
use crate::standing::{Worthless, worthless_network};
use crate::tally::{Tally, is_ann, model_name, network_name};
use crate::text;

#[derive(Serialize, Deserialize)]
struct Part {
    model: String,
    network: String,
    component: String,
    picojoules: f64,
    normalised: f64,
    /// Why a saving would mean nothing, if so.
    remark: String,
}

/// Components with their colours; others follow.
const COMPONENTS: [(&str, &str, Ink); 7] = [
    ("multiply_accumulate", "multiply-accumulates", Ink::Series(ANN_SERIES)),
    ("accumulate", "accumulates", Ink::Series(0)),
    ("membrane", "membrane updates", Ink::Series(1)),
    ("requantise", "requantising", Ink::Series(3)),
    ("weight_memory", "weights from memory", Ink::Series(4)),
    ("state_memory", "activations or membranes in memory", Ink::Series(2)),
    ("addressing", "addresses of events", Ink::Series(5)),
];

fn component(name: &str) -> (String, Ink) {
    COMPONENTS
        .iter()
        .find(|(key, ..)| *key == name)
        .map_or_else(|| (name.to_owned(), Ink::Series(3)), |(_, words, ink)| ((*words).to_owned(), *ink))
}

pub(super) fn add_components(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 7";
    if !gallery.has(run, ITEM, &[Energy::FILE]) {
        return Ok(());
    }
    let rows = run.energy.as_deref().unwrap_or_default();
    let tally = Tally::of(run);
    let mut parts = Vec::new();
    for model in tally.models() {
        let Some(whole) = tally.total(&model, ANN).filter(|w| *w > 0.0) else { continue };
        for network in tally.networks(&model) {
            let of = || rows.iter().filter(|r| r.model == model && r.network == network);
            for component in distinct(of().map(|r| r.component.as_str())) {
                let picojoules: f64 = of().filter(|r| r.component == component).map(|r| r.picojoules).sum();
                parts.push(Part {
                    model: model.clone(),
                    network: network.clone(),
                    component,
                    picojoules,
                    normalised: picojoules / whole,
                    remark: worthless_network(run, &network).map_or("", Worthless::words).to_owned(),
                });
            }
        }
    }
    if parts.is_empty() {
        gallery.leave_out(ITEM, &[Energy::FILE], "has no model with a network `ann` to compare with");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Energy,
        stem: "fig7_energy".to_owned(),
        label: ITEM,
        caption: "Energy per recording relative to the full-precision ANN (dashed line: 1), for each way of counting, \
                  and what it goes into. Each panel has its own scale. The published formula counts the three \
                  convolutions only."
            .to_owned(),
    };
    gallery.add(plan, &parts, draw_components)
}

fn draw_components(parts: &[Part]) -> Scene {
    const ROW: f64 = 21.0;
    const LEFT: f64 = 170.0;
    const RIGHT: f64 = 138.0;
    let mut scene = Scene::new(WIDTH, 0.0, "Energy relative to the ANN");
    let used = distinct(parts.iter().map(|p| p.component.as_str()));
    let known = COMPONENTS.iter().map(|(key, ..)| *key).filter(|key| used.iter().any(|u| u == key));
    let other = used.iter().map(String::as_str).filter(|u| COMPONENTS.iter().all(|(key, ..)| key != u));
    let entries: Vec<_> = known
        .chain(other)
        .map(|key| {
            let (words, ink) = component(key);
            (Swatch::Box(ink), words)
        })
        .collect();
    let mut top = 34.0 + legend(&mut scene, 12.0, 34.0, WIDTH - 24.0, &entries) + 8.0;
    for model in distinct(parts.iter().map(|p| p.model.as_str())) {
        let of = || parts.iter().filter(|p| p.model == model);
        let networks = distinct(of().map(|p| p.network.as_str()));
        let total = |network: &str| of().filter(|p| p.network == network).map(|p| p.normalised).sum::<f64>();
        let most = networks.iter().map(|n| total(n)).fold(1.0, f64::max);
        scene.text(12.0, top + 16.0, &model_name(&model), Type::PANEL);
        let area = Area::new(LEFT, top + 26.0, WIDTH - LEFT - RIGHT, ROW * networks.len() as f64);
        let x = Axis::from_zero(most, 5, "");
        let at = |value: f64| area.x + x.at(value) * area.w;
        for (value, _) in &x.ticks {
            scene.line(vec![(at(*value), area.y), (at(*value), area.bottom())], Ink::Grid, 1.0, Dash::Solid);
        }
        for (i, network) in networks.iter().enumerate() {
            let middle = area.y + (i as f64 + 0.5) * ROW;
            let name = text::fit(&network_name(network), LEFT - 26.0, Type::VALUE.size, false);
            scene.text(LEFT - 8.0, middle + Type::VALUE.drop(), &name, Type::VALUE.end());
            let mut from = 0.0;
            for part in of().filter(|p| p.network == *network) {
                let to = from + part.normalised;
                scene.rect(at(from), middle - 7.5, at(to) - at(from), 15.0, component(&part.component).1);
                from = to;
            }
            let remark = of().find(|p| p.network == *network).map_or("", |p| p.remark.as_str());
            let label = match (network.as_str(), remark) {
                (ANN, _) => "1".to_owned(),
                (_, "") => compared(from),
                (_, remark) => format!("({remark})"),
            };
            // Right of the bar, and of the dashed line if that would cross it.
            let left = at(from) + 6.0;
            let crossed = (left - 3.0..left + Type::VALUE.width(&label) + 3.0).contains(&at(1.0));
            let left = if crossed { at(1.0) + 6.0 } else { left };
            scene.text(left, middle + Type::VALUE.drop(), &label, Type::VALUE);
        }
        scene.line(vec![(at(1.0), area.y), (at(1.0), area.bottom())], Ink::Text, 1.2, Dash::Dashed);
        x_axis(&mut scene, area, &x);
        top = area.bottom() + 32.0;
    }
    scene.text(
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        top + 4.0,
        "energy per recording (full-precision ANN = 1)",
        Type::LABEL.middle(),
    );
    scene.height = top + 18.0;
    scene
}

/// `0.0196 (51.0x less)`, `5.06`.
fn compared(normalised: f64) -> String {
    if normalised <= 0.0 {
        return "0".to_owned();
    }
    let value = text::significant(normalised, 3);
    if normalised < 1.0 { format!("{value} ({} less)", text::ratio(1.0 / normalised)) } else { value }
}

pub(super) fn add_steps(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 8";
    if !gallery.has(run, ITEM, &[EnergyStep::FILE]) {
        return Ok(());
    }
    let steps = run.energy_steps.as_deref().unwrap_or_default();
    if !steps.iter().any(|s| !is_ann(&s.network)) {
        gallery.leave_out(ITEM, &[EnergyStep::FILE], "has no row of a spiking network");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Energy,
        stem: "fig8_energy_steps".to_owned(),
        label: ITEM,
        caption: "Energy spent per recording up to each step of the simulation (log scale), for each way of counting. \
                  The ANN computes once: its energy is the level line."
            .to_owned(),
    };
    gallery.add(plan, steps, draw_steps)
}

fn draw_steps(steps: &[EnergyStep]) -> Scene {
    const PER_ROW: usize = 2;
    let mut networks = distinct(steps.iter().map(|s| s.network.as_str()));
    networks.sort_by_key(|n| is_ann(n));
    let mut spiking = 0;
    let look: Vec<(String, Ink, Dash)> = networks
        .into_iter()
        .map(|name| {
            if name == ANN {
                (name, Ink::Series(ANN_SERIES), Dash::Dashed)
            } else if is_ann(&name) {
                (name, Ink::Series(ANN_SERIES), Dash::Dotted)
            } else {
                spiking += 1;
                (name, Ink::Series((spiking - 1) % ANN_SERIES), Dash::Solid)
            }
        })
        .collect();
    let mut scene = Scene::new(WIDTH, 0.0, "Energy over the simulation");
    let length =
        |name: &str| steps.iter().filter(|s| s.network == name).map(|s| s.step + 1).max().unwrap_or(1);
    // The shape of the marks, where they have room.
    let mark = |i: usize, name: &str| (!is_ann(name) && length(name) <= 12).then_some(i);
    let entries: Vec<_> = look
        .iter()
        .enumerate()
        .map(|(i, (name, ink, dash))| (Swatch::Line(*ink, *dash, mark(i, name)), network_name(name)))
        .collect();
    let start = 34.0 + legend(&mut scene, 12.0, 34.0, WIDTH - 24.0, &entries) + 6.0;
    let models = distinct(steps.iter().map(|s| s.model.as_str()));
    let lengths = || look.iter().filter(|(name, ..)| !is_ann(name)).map(|(name, ..)| length(name));
    let (shortest, last) = (lengths().min().unwrap_or(1), lengths().max().unwrap_or(1));
    // Beside long simulations, short ones need a logarithmic axis to be seen.
    let steps_axis = if last > shortest.saturating_mul(8) {
        let x = Axis::log(1.0, f64::from(last), "steps run (log scale)");
        Axis {
            hi: f64::from(last),
            ticks: x.ticks.into_iter().filter(|t| t.0 <= f64::from(last)).collect(),
            ..x
        }
    } else if last > 1 {
        Axis::whole(1.0, f64::from(last), 6, "steps run")
    } else {
        Axis::whole(0.5, 1.5, 6, "steps run")
    };
    for (i, model) in models.iter().enumerate() {
        let top = start + (i / PER_ROW) as f64 * 264.0;
        let area = Area::new(56.0 + (i % PER_ROW) as f64 * 358.0, top + 46.0, 286.0, 160.0);
        let of = |network: &str| {
            let mut line: Vec<(f64, f64)> = steps
                .iter()
                .filter(|s| s.model == *model && s.network == network && s.picojoules > 0.0)
                .map(|s| (f64::from(s.step + 1), s.picojoules))
                .collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            line
        };
        let values = || steps.iter().filter(|s| s.model == *model).map(|s| s.picojoules).filter(|v| *v > 0.0);
        let (lo, hi) = values().fold((f64::INFINITY, 0.0), |(lo, hi): (f64, f64), v| (lo.min(v), hi.max(v)));
        let (lo, hi) = if hi > 0.0 { (lo, hi) } else { (1.0, 10.0) };
        let (scale, unit) = text::energy_unit(hi);
        scene.text(area.x - 44.0, top + 16.0, &model_name(model), Type::PANEL);
        let y = Axis::log(lo / scale, hi / scale, &format!("{unit} per recording (log scale)"));
        let plot = Plot::new(&mut scene, area, steps_axis.clone(), y);
        for (i, (network, ink, dash)) in look.iter().enumerate() {
            let line: Vec<_> = of(network).into_iter().map(|(x, v)| (x, v / scale)).collect();
            match line.last() {
                Some((_, value)) if is_ann(network) => plot.level(&mut scene, *value, *ink, *dash),
                Some(_) => plot.series(&mut scene, &line, *ink, *dash, mark(i, network)),
                None => {}
            }
        }
    }
    scene.height = start + models.len().div_ceil(PER_ROW) as f64 * 264.0 - 4.0;
    scene
}
