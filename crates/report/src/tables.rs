//! The tables of the page, as values that become HTML or aligned text.

use std::collections::HashMap;
use std::fmt;

use escape_energy::{ANN, PUBLISHED, ann_of};

use crate::claims::{self, Claim, Quantised, Verdict};
use crate::front;
use crate::interval::Spread;
use crate::published as study;
use crate::routes::routes;
use crate::rows::{Activity, Energy, Evaluation, Kind, Row};
use crate::run::{Run, distinct};
use crate::scene::escape;
use crate::seeds::{self, over_seeds, savings_text, seeds_of, spread_text};
use crate::standing::{
    Worthless, balanced, chance, classes, has_energy, is_of_other_ann, is_of_other_size, is_of_study,
    largest_class, reference_ann, representatives, representatives_of, standard_error, worthless,
    worthless_network,
};
use crate::tally::{Tally, model_name, network_name};
use crate::text;

/// For a value that is not known or has no meaning.
pub(crate) const NONE: &str = "-";

/// A column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub head: String,
    /// Numbers stand right, text stands left.
    pub numeric: bool,
    /// It holds the published study's values rather than the run's.
    pub study: bool,
}

/// A table. Its [`Display`](fmt::Display) is aligned plain text, without the study's columns and the notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Short name: `table1`.
    pub id: &'static str,
    /// Title.
    pub title: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Cells, row by row, as long as the columns.
    pub rows: Vec<Vec<String>>,
    /// Footnotes.
    pub notes: Vec<String>,
    /// Those about the published study, until it is known whether it has to do with the run's networks.
    pub(crate) study_notes: Vec<String>,
}

/// The tables a run has data for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// Networks compared: accuracy and energy.
    pub table1: Option<Table>,
    /// Accuracy of converted networks against T.
    pub table2: Option<Table>,
    /// Fine-tuning: before and after, for each T.
    pub table3: Option<Table>,
    /// What the layers did.
    pub activity: Option<Table>,
    /// Energy by model.
    pub energy: Option<Table>,
    /// Which claims of a saving survive.
    pub claims: Option<Table>,
    /// Accuracy against energy, of a study.
    pub front: Option<Table>,
}

/// The short names of all tables.
pub(crate) const IDS: [&str; 7] =
    ["table1", "front", "table2", "table3", "claims", "energy-table", "activity"];

impl Tables {
    /// Those that there are, in the order of the page.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Table> {
        let all = [
            &self.table1,
            &self.front,
            &self.table2,
            &self.table3,
            &self.claims,
            &self.energy,
            &self.activity,
        ];
        all.into_iter().flatten()
    }
}

impl Table {
    pub(crate) fn new(id: &'static str, title: &str, columns: &[(&str, bool)]) -> Self {
        let column =
            |&(head, numeric): &(&str, bool)| Column { head: head.to_owned(), numeric, study: false };
        Self {
            id,
            title: title.to_owned(),
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
            study_notes: Vec::new(),
        }
    }

    /// With what is of the published study, or of networks that are none of its without.
    fn finished(mut self, of_study: bool) -> Self {
        let mut study_notes = std::mem::take(&mut self.study_notes);
        if of_study {
            self.notes.append(&mut study_notes);
            return self;
        }
        let kept: Vec<bool> = self.columns.iter().map(|column| !column.study).collect();
        let keep = |row: Vec<String>| {
            row.into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(cell, _)| cell).collect()
        };
        self.rows = self.rows.into_iter().map(keep).collect();
        self.columns.retain(|column| !column.study);
        self
    }

    pub(crate) fn numeric(&mut self, head: String) {
        self.columns.push(Column { head, numeric: true, study: false });
    }

    pub(crate) fn study(&mut self, head: &str) {
        self.columns.push(Column { head: head.to_owned(), numeric: true, study: true });
    }

    /// Its anchor on the page, where a figure has the same name.
    fn anchor(&self) -> &'static str {
        if self.id == "front" { "front-table" } else { self.id }
    }

    /// As an HTML table.
    pub(crate) fn html(&self) -> String {
        let class = |c: &Column| match (c.numeric, c.study) {
            (_, true) => " class=\"n study\"",
            (true, _) => " class=\"n\"",
            _ => "",
        };
        let mut html = format!(
            "<p class=\"hint\">{} columns: what does not fit scrolls sideways.</p>\n<div class=\"wide\" tabindex=\"0\" \
             role=\"region\" aria-label=\"{title}\"><table id=\"{}\"><caption>{title}</caption>\n<thead><tr>",
            self.columns.len(),
            self.anchor(),
            title = escape(&self.title)
        );
        for c in &self.columns {
            html += &format!("<th scope=\"col\"{}>{}</th>", class(c), escape(&c.head));
        }
        html += "</tr></thead>\n<tbody>\n";
        for (i, row) in self.rows.iter().enumerate() {
            // Rows that share their first cell are a group, named once and set apart from the next.
            let grouped = matches!(self.id, "activity" | "energy-table" | "claims");
            let repeats = grouped && i > 0 && row.first() == self.rows[i - 1].first();
            html += if grouped && !repeats && i > 0 { "<tr class=\"group\">" } else { "<tr>" };
            for (at, (cell, c)) in row.iter().zip(&self.columns).enumerate() {
                let cell = if at == 0 && repeats { "" } else { cell };
                html +=
                    &format!("<td{}>{}</td>", class(c), escape(if cell == NONE { "\u{2013}" } else { cell }));
            }
            html += "</tr>\n";
        }
        html += "</tbody></table></div>\n";
        for note in &self.notes {
            html += &format!("<p class=\"note\">{}</p>\n", escape(note));
        }
        html
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|i| !self.columns[*i].study).collect();
        let length = |text: &str| text.chars().count();
        // Heads of several words take two lines, or they would be wider than most of their cells.
        let head = |i: usize| {
            let head = self.columns[i].head.as_str();
            head.rsplit_once(' ').unwrap_or(("", head))
        };
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| length(cell));
            cells.chain([length(head(i).0), length(head(i).1)]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = shown.iter().map(|i| width(*i)).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut out = String::new();
            for (at, ((cell, width), i)) in cells.zip(&widths).zip(&shown).enumerate() {
                let pad = " ".repeat(width.saturating_sub(length(cell)));
                if at > 0 {
                    out.push_str("  ");
                }
                let parts = if self.columns[*i].numeric { [&pad, cell] } else { [cell, &pad] };
                out.extend(parts);
            }
            out.trim_end().to_owned()
        };
        writeln!(f, "{}", self.title)?;
        if shown.iter().any(|i| !head(*i).0.is_empty()) {
            writeln!(f, "{}", line(&mut shown.iter().map(|i| head(*i).0)))?;
        }
        writeln!(f, "{}", line(&mut shown.iter().map(|i| head(*i).1)))?;
        writeln!(f, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)))?;
        for row in &self.rows {
            let cell = |i: &usize| row.get(*i).map_or("", String::as_str);
            writeln!(f, "{}", line(&mut shown.iter().map(cell)))?;
        }
        Ok(())
    }
}

/// All tables of a run.
pub(crate) fn all(run: &Run) -> Tables {
    let of_study = is_of_study(run);
    let filled =
        |table: Option<Table>| table.filter(|t| !t.rows.is_empty()).map(|table| table.finished(of_study));
    Tables {
        table1: filled(seeds::table1(run).or_else(|| table1(run))),
        table2: filled(seeds::table2(run).or_else(|| table2(run))),
        table3: filled(seeds::table3(run).or_else(|| table3(run))),
        activity: filled(activity(run)),
        energy: filled(energy(run)),
        claims: filled(claims_table(run)),
        front: filled(front::table(run)),
    }
}

fn table1(run: &Run) -> Option<Table> {
    run.evaluations.as_ref()?;
    let tally = Tally::of(run);
    let mut table = Table::new(
        "table1",
        "Table 1. Networks compared",
        &[
            ("network", false),
            ("route", false),
            ("T", true),
            ("samples", true),
            ("accuracy", true),
            ("points lost", true),
            ("standard error", true),
            ("balanced accuracy", true),
            ("macro F1", true),
        ],
    );
    let published = tally.models().iter().any(|m| m == PUBLISHED);
    if published {
        table.numeric("energy, published".to_owned());
        table.numeric("saving, published".to_owned());
    }
    let itemised: Vec<String> =
        [tally.itemised(), tally.itemised_with_memory()].into_iter().flatten().collect();
    for model in &itemised {
        table.numeric(format!("saving, {model}"));
    }
    table.study("study: accuracy");
    table.study("study: energy");
    let reference = reference_ann(run);
    let mut marked: Vec<(String, Worthless)> = Vec::new();
    for e in representatives(run) {
        let spiking = e.kind.is_spiking();
        let settings: Vec<&str> =
            [e.preset.as_str(), e.encoder.as_str()].into_iter().filter(|s| !s.is_empty()).collect();
        let mut route = if spiking && !settings.is_empty() {
            format!("{} ({})", e.kind.words(), settings.join(", "))
        } else {
            e.kind.words().to_owned()
        };
        let nothing = worthless(run, e);
        if let Some(why) = nothing {
            route += &format!("; {}", why.words());
            marked.push((e.network.clone(), why));
        }
        let share = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.3}"));
        let (balanced_accuracy, macro_f1) = balanced(run, e);
        let lost = reference.filter(|r| r.network != e.network && r.samples == e.samples);
        let mut row = vec![
            e.network.clone(),
            route,
            e.timesteps.map_or_else(|| NONE.to_owned(), |t| t.to_string()),
            text::grouped(e.samples),
            format!("{:.3}", e.accuracy),
            lost.map_or_else(|| NONE.to_owned(), |r| format!("{:.1}", 100.0 * (r.accuracy - e.accuracy))),
            share(Some(standard_error(e)).filter(|error| error.is_finite())),
            share(balanced_accuracy),
            share(macro_f1),
        ];
        let saving = |model: &str| {
            let known = spiking && nothing.is_none() && has_energy(run, e);
            known.then(|| tally.saving(model, ANN, &e.network)).flatten()
        };
        let is_reference = reference.is_some_and(|r| r.network == e.network);
        if published {
            let normalised = if is_reference { Some(1.0) } else { saving(PUBLISHED).map(f64::recip) };
            row.push(normalised.map_or_else(|| NONE.to_owned(), |n| text::significant(n, 3)));
            row.push(saving(PUBLISHED).map_or_else(|| NONE.to_owned(), text::ratio));
        }
        for model in &itemised {
            row.push(saving(model).map_or_else(|| NONE.to_owned(), text::ratio));
        }
        row.push(study::accuracy(e));
        row.push(if study::has_energy(e) { text::significant(study::ENERGY, 3) } else { NONE.to_owned() });
        table.rows.push(row);
    }
    let against = reference.map_or(String::new(), |r| format!(" against the ANN \"{}\"", r.network));
    table.notes.push(format!(
        "Points lost: percentage points of accuracy{against}, where as many recordings judged both. Saving: energy of the ANN over energy of the network, so \
         that 1 is a draw and below 1 the ANN wins."
    ));
    table.study_notes.push(
        "Columns headed \"study\" are the published study's values, on its own 7,835 test recordings; they are for \
         reference and no result of this run."
            .to_owned(),
    );
    if run.recordings() != "test recordings" {
        table.notes.push(format!("Accuracies are of {}.", run.recordings()));
    }
    let bar = reference.or(run.evaluations.iter().flatten().next()).map(|e| e.samples);
    let bar = bar.and_then(|samples| largest_class(run, samples));
    let largest = bar
        .map_or_else(String::new, |share| format!(", naming the most frequent class throughout {share:.3}"));
    table.notes.push(format!(
        "Standard error: of the accuracy, sqrt(p (1 - p) / n) for a share p of n recordings. Balanced accuracy: the mean \
         over the classes of the share of their recordings that is found. Guessing among {} classes gives {:.3}{largest}.",
        classes(run),
        chance(run)
    ));
    table.notes.extend(remarks(&marked));
    Some(table)
}

/// What is to be said of networks whose saving would mean nothing.
fn remarks(marked: &[(String, Worthless)]) -> Vec<String> {
    let of = |wanted: Worthless| {
        let names: Vec<&str> = marked.iter().filter(|m| m.1 == wanted).map(|m| m.0.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let guesses = of(Worthless::Guesses).map(|names| {
        format!(
            "Guesses: {names} is no better than naming the most frequent class throughout, so no saving is told of it."
        )
    });
    let silent = of(Worthless::Silent).map(|names| {
        format!("Silent: {names} has a layer that fires no spike, so its answers do not come from the recordings, and no saving is told of it.")
    });
    guesses.into_iter().chain(silent).collect()
}

fn table2(run: &Run) -> Option<Table> {
    let all = run.evaluations.as_deref()?;
    let routes = routes(all);
    let converted = || all.iter().zip(&routes).filter(|(e, _)| e.kind == Kind::Converted);
    let names = distinct(converted().map(|(_, route)| route.as_str()));
    let mut steps: Vec<u32> = converted().filter_map(|(e, _)| e.timesteps).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut table = Table::new("table2", "Table 2. Converted only: accuracy against T", &[("T", true)]);
    for name in &names {
        let of_route = converted().filter(|(_, route)| *route == name);
        let samples = text::several(of_route.map(|(e, _)| e.samples), text::grouped);
        table.numeric(format!("{name}, {samples} recordings"));
    }
    table.study("study");
    for t in steps {
        let mut row = vec![t.to_string()];
        for name in &names {
            let found = converted().find(|(e, route)| e.timesteps == Some(t) && *route == name);
            row.push(found.map_or_else(|| NONE.to_owned(), |(e, _)| with_error(e)));
        }
        let study = study::CONVERTED_AT.iter().find(|(at, _)| *at == t);
        row.push(study.map_or_else(|| NONE.to_owned(), |(_, a)| format!("{a:.3}")));
        table.rows.push(row);
    }
    let study = study::CONVERTED_AT.map(|(t, a)| format!("{t}: {a:.3}")).join(", ");
    table.notes.push("Accuracy and its standard error.".to_owned());
    table.study_notes.push(format!("The published study has, by T, on its own 7,835 recordings: {study}."));
    Some(table)
}

/// `0.515 ± 0.035`
fn with_error(e: &Evaluation) -> String {
    let error = standard_error(e);
    if error.is_finite() {
        format!("{:.3} \u{b1} {error:.3}", e.accuracy)
    } else {
        format!("{:.3}", e.accuracy)
    }
}

fn table3(run: &Run) -> Option<Table> {
    let all = run.evaluations.as_deref()?;
    let mut finetuned: Vec<&Evaluation> = all.iter().filter(|e| e.kind == Kind::Finetuned).collect();
    finetuned.sort_by_key(|e| e.timesteps);
    let mut table = Table::new(
        "table3",
        "Table 3. Fine-tuning: accuracy before and after",
        &[
            ("T", true),
            ("network", false),
            ("preset", false),
            ("samples", true),
            ("converted only", true),
            ("fine-tuned", true),
            ("points gained", true),
            ("best epoch", true),
        ],
    );
    table.study("study: converted");
    table.study("study: fine-tuned (epoch)");
    for e in finetuned {
        let same =
            |o: &&Evaluation| o.kind == Kind::Converted && o.timesteps == e.timesteps && o.preset == e.preset;
        let before = all.iter().filter(same).find(|o| o.encoder == e.encoder);
        let study = study::finetuned(&e.preset, e.timesteps);
        let settings: Vec<&str> =
            [e.preset.as_str(), e.encoder.as_str()].into_iter().filter(|s| !s.is_empty()).collect();
        table.rows.push(vec![
            e.timesteps.map_or_else(|| NONE.to_owned(), |t| t.to_string()),
            e.network.clone(),
            settings.join(", "),
            text::grouped(e.samples),
            before.map_or_else(|| NONE.to_owned(), with_error),
            with_error(e),
            before
                .filter(|b| b.samples == e.samples)
                .map_or_else(|| NONE.to_owned(), |b| format!("{:+.1}", 100.0 * (e.accuracy - b.accuracy))),
            e.epoch.map_or_else(|| NONE.to_owned(), |epoch| epoch.to_string()),
            study.map_or_else(|| NONE.to_owned(), |s| format!("{:.3}", s.1)),
            study.map_or_else(|| NONE.to_owned(), |s| format!("{:.3} ({})", s.2, s.3)),
        ]);
    }
    let judges = run.finetune.iter().flatten().map(|row| row.judged_on.as_deref().unwrap_or("test"));
    let here = match &distinct(judges)[..] {
        [] => None,
        [only] if only == "test" => Some("by the test recordings, as the study did"),
        [_] => Some("by held-out training recordings"),
        _ => Some("for some networks by the test recordings, for others by held-out training recordings"),
    };
    table.notes.extend(here.map(|judges| format!("The best epoch is chosen {judges}.")));
    table.study_notes.push(
        "The published study's best is 0.283 before and 0.699 after 10 epochs at T = 28; it keeps the epoch with the best \
         test accuracy."
            .to_owned(),
    );
    Some(table)
}

fn activity(run: &Run) -> Option<Table> {
    let all = run.activity.as_ref()?;
    let mut table = Table::new(
        "activity",
        "Activity per recording",
        &[
            ("network", false),
            ("layer", false),
            ("neurons", true),
            ("spikes", true),
            ("spikes per neuron", true),
            ("accumulates", true),
            ("MACs of the ANN", true),
        ],
    );
    table.study("study, model 1");
    table.study("study, model 2");
    let mut analog = false;
    for network in distinct(all.iter().map(|r| r.network.as_str())) {
        for layer in run.activity_of(&network) {
            let over = |number: fn(&Activity) -> f64| {
                over_seeds(run, &network, |seed| {
                    seed.activity_of(&network).into_iter().find(|a| a.layer == layer.layer).map(number)
                })
            };
            let amounts = |spread: Option<Spread>| {
                // Its deviation has no decimals where it has none.
                let digits = |of: Spread, sd: f64| match of.mean < 100.0 {
                    true => text::significant(sd, 2),
                    false => text::grouped(sd.round() as u64),
                };
                let shown =
                    |s: Spread| with_deviation(text::amount(s.mean), s.deviation.map(|sd| digits(s, sd)));
                spread.map_or_else(|| NONE.to_owned(), shown)
            };
            let rate = over(|a| a.spikes_per_sample / a.neurons.max(1) as f64);
            let study = study::RATES.iter().find(|(name, ..)| *name == layer.layer);
            analog |= layer.analog_input;
            table.rows.push(vec![
                format!("{network} (T = {})", layer.timesteps),
                layer.layer.clone(),
                text::grouped(layer.neurons),
                amounts(over(|a| a.spikes_per_sample)),
                spread_text(rate),
                if layer.analog_input {
                    "analog".to_owned()
                } else {
                    amounts(over(|a| a.synaptic_operations_per_sample))
                },
                text::grouped(layer.macs),
                study.map_or_else(|| NONE.to_owned(), |s| format!("{:.3}", s.1)),
                study.map_or_else(|| NONE.to_owned(), |s| format!("{:.3}", s.2)),
            ]);
        }
    }
    let analog = if analog {
        " An analog layer sees the recording itself and does its multiply-accumulates once."
    } else {
        ""
    };
    table.notes.push(format!(
        "Averages over the samples evaluated, summed over all steps. Accumulates are the additions that arriving spikes \
         cause.{analog}{}",
        seeds::over_seeds_note(run)
    ));
    table
        .study_notes
        .push("The study's columns are spikes per neuron of its two models at T = 28.".to_owned());
    Some(table)
}

fn energy(run: &Run) -> Option<Table> {
    run.energy.as_ref()?;
    let seeds: Vec<(&Run, Tally<'_>)> =
        std::iter::once(run).chain(&run.other_seeds).map(|seed| (seed, Tally::of(seed))).collect();
    let tally = &seeds[0].1;
    let mut table = Table::new(
        "energy-table",
        "Energy per recording, by way of counting",
        &[("counting", false), ("network", false)],
    );
    if !run.other_seeds.is_empty() {
        table.numeric("seeds".to_owned());
    }
    for head in ["recordings", "accuracy", "energy", "relative to the ANN", "saving"] {
        table.numeric(head.to_owned());
    }
    table.study("study");
    let mut marked: Vec<(String, Worthless)> = Vec::new();
    // What is the same by all models.
    let mut known: HashMap<String, (Option<&Evaluation>, String, Option<Worthless>)> = HashMap::new();
    for model in tally.models() {
        for network in tally.networks(&model) {
            let seeds = &seeds[..seeds_of(run, &network).len()];
            let over = |value: &dyn Fn(&Run, &Tally<'_>) -> Option<f64>| {
                let known = seeds.iter().filter_map(|(seed, tally)| value(seed, tally));
                Spread::of(&known.collect::<Vec<f64>>())
            };
            let Some(total) = over(&|_, tally| tally.total(&model, &network)) else { continue };
            let relative = over(&|_, tally| {
                let ann = tally.total(&model, ANN).filter(|ann| *ann > 0.0)?;
                Some(tally.total(&model, &network)? / ann)
            });
            let judged = || {
                let accuracy = over(&|seed, _| evaluation_of(seed, &network).map(|e| e.accuracy));
                (evaluation_of(run, &network), spread_text(accuracy), worthless_network(run, &network))
            };
            let (evaluation, accuracy, nothing) = known.entry(network.clone()).or_insert_with(judged);
            let (evaluation, nothing) = (*evaluation, *nothing);
            marked.extend(nothing.map(|why| (network.clone(), why)).filter(|m| !marked.contains(m)));
            let none = || NONE.to_owned();
            let mut row = vec![model_name(&model), network_name(&network)];
            row.extend((!run.other_seeds.is_empty()).then(|| total.seeds.to_string()));
            row.extend([
                evaluation.map_or_else(none, |e| text::grouped(e.samples)),
                accuracy.clone(),
                text::energy(total.mean),
                relative.map_or_else(none, |relative| {
                    let deviation = relative.deviation.map(|deviation| text::significant(deviation, 1));
                    with_deviation(text::significant(relative.mean, 3), deviation)
                }),
                (network != ANN && nothing.is_none())
                    .then(|| over(&|_, tally| tally.saving(&model, ANN, &network)))
                    .flatten()
                    .map_or_else(none, savings_text),
                evaluation
                    .filter(|e| model == PUBLISHED && study::has_energy(e))
                    .map_or_else(none, |_| text::significant(study::ENERGY, 3)),
            ]);
            table.rows.push(row);
        }
    }
    table.notes.push(format!(
        "From {}. The published formula counts three convolutions, takes a layer's own spikes for its work, and prints \
         picojoules as millijoules; the others count all layers, arriving spikes and membrane updates, at 45 nm. The model says \
         how the spiking network computes; an ANN computes in fp32, or in whole numbers of its bits.{}",
        Energy::FILE,
        seeds::beside_anns_note(run)
    ));
    table.notes.extend(remarks(&marked));
    Some(table)
}

/// A mean and its standard deviation, where there is one other than 0.
fn with_deviation(mean: String, deviation: Option<String>) -> String {
    match deviation.filter(|deviation| deviation != "0") {
        Some(deviation) => format!("{mean} \u{b1} {deviation}"),
        None => mean,
    }
}

/// The evaluation of a network of the energy tables, as it is counted there.
fn evaluation_of<'a>(run: &'a Run, network: &str) -> Option<&'a Evaluation> {
    match ann_of(network) {
        Some((None, _)) => reference_ann(run),
        Some((bits, _)) => {
            let all = run.evaluations.iter().flatten();
            all.rev().find(|e| e.kind == Kind::Quantised && e.bits == bits)
        }
        None => representatives_of(run, network).into_iter().find(|e| has_energy(run, e)),
    }
}

fn claims_table(run: &Run) -> Option<Table> {
    run.energy.as_ref()?;
    let mut table = Table::new(
        "claims",
        "Which claims survive: less energy than an ANN that is no less accurate",
        &[
            ("network", false),
            ("counting", false),
            ("claim", false),
            ("published formula", true),
            ("fp32 ANN", true),
            ("fp32 ANN, skips zeros", true),
            ("quantised ANN", true),
            ("quantised ANN, skips zeros", true),
        ],
    );
    let all = claims::over_seeds(run);
    let none = || NONE.to_owned();
    for claimed in &all {
        let Claim { network, timesteps, model, .. } = claimed.first();
        let at = timesteps.map_or_else(String::new, |t| format!("T = {t}, "));
        let accuracy = spread_text(claimed.spread(|c| Some(c.accuracy)));
        let seeds = match claimed.seeds() {
            1 => String::new(),
            n => format!(", n = {n}"),
        };
        let ratio =
            |saving: fn(&Claim) -> Option<f64>| claimed.spread(saving).map_or_else(none, savings_text);
        let over = |rival: fn(&Claim) -> Option<Quantised>| {
            let bits = text::several(claimed.bits(rival), |bits| bits.to_string());
            let saving = claimed.spread(|claim| Some(rival(claim)?.saving));
            saving.map_or_else(none, |saving| format!("{} ({bits} bits)", savings_text(saving)))
        };
        table.rows.push(vec![
            format!("{network} ({at}{accuracy}{seeds})"),
            model_name(model),
            claimed.verdict(),
            ratio(|c| c.published),
            ratio(|c| c.full),
            ratio(|c| c.full_skip),
            over(|c| c.quantised),
            over(|c| c.quantised_skip),
        ]);
    }
    table.notes.push(
        "Savings: energy of the ANN over energy of the network, above 1 where the network needs less. The quantised ANN is the \
         cheapest whose accuracy, on the same recordings, is not lower than the network's by more than two standard errors of the \
         difference (of the paired one where the answers to each recording are known). A claim holds if the network needs less than \
         every one of these, at its own accuracy, which may be below that of the ANN; it cannot be told where no quantised ANN was measured, or where only ANNs need less whose \
         accuracy is lower by what may be chance."
            .to_owned() + &seeds::beside_anns_note(run),
    );
    let spiking = run.evaluations.iter().flatten().filter(|e| e.kind.is_spiking());
    let mut left_out = distinct(spiking.map(|e| e.network.as_str()));
    left_out.retain(|network| is_of_other_ann(run, network));
    if !left_out.is_empty() {
        table.notes.push(format!(
            "Made from another ANN than these, and therefore not among them: {}. The table of accuracy against energy has each beside \
             the ANNs of all kinds.",
            text::listed(&left_out, 6)
        ));
    }
    let others = distinct(all.iter().map(|claimed| claimed.first().network.as_str()));
    let others: Vec<&str> =
        others.iter().map(String::as_str).filter(|network| is_of_other_size(run, network)).collect();
    if !others.is_empty() {
        table.notes.push(format!(
            "Of other layers than the ANN, and not made from it: {}. What such a network saves is that of its size too; an ANN as small would \
             save as well, and is not among these.",
            others.join(", ")
        ));
    }
    let untold = |claim: &Claim| claim.quantised.is_none() && claim.verdict == Verdict::CannotBeTold;
    if all.iter().all(|claimed| untold(claimed.first())) && !all.is_empty() {
        table.notes.push(
            "No quantised ANN is among the networks of this folder: `baselines` in a run's configuration measures some, as \
             `evaluate --bits` of an ANN does."
                .to_owned(),
        );
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned() {
        let mut table = Table::new("t", "Title", &[("name", false), ("value", true)]);
        table.study("study");
        table.rows = vec![
            vec!["a".to_owned(), "1.25".to_owned(), "9".to_owned()],
            vec!["longer".to_owned(), "-".to_owned(), "9".to_owned()],
        ];
        let expected = "Title\nname    value\n-------------\na        1.25\nlonger      -\n";
        assert_eq!(table.to_string(), expected);
        assert!(table.html().contains("<td class=\"n study\">9</td>"));
        // Of networks that are none of the study's nothing is said of it.
        table.study_notes.push("of the study".to_owned());
        let told = table.clone().finished(true);
        assert_eq!((told.notes.len(), told.columns.len()), (1, 3));
        let other = table.finished(false);
        assert_eq!((other.notes.len(), other.columns.len(), other.rows[1].len()), (0, 2, 2));
        assert!(!other.html().contains("study"));
    }
}
