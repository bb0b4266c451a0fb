//! `report/index.html`: one file that needs no other, no network and no script.

use std::path::Path;

use escape_energy::{ANN, PUBLISHED};
use serde_json::{Map, Value};

use crate::LeftOut;
use crate::claims::{self, Claimed};
use crate::figures::{Chapter, EXTENSIONS, Figure};
use crate::rows::{Evaluation, SEEDS};
use crate::run::Run;
use crate::scene::{escape, variables};
use crate::seeds::{accuracy, over_seeds};
use crate::standing::{
    Worthless, best_spiking, chance, has_energy, largest_class, reference_ann, standard_error, worthless,
};
use crate::style::Style;
use crate::tables::{Table, Tables};
use crate::tally::Tally;
use crate::text;

/// The page of a run.
pub(crate) fn html(
    run: &Run,
    style: &Style,
    figures: &[Figure],
    tables: &Tables,
    left_out: &[LeftOut],
) -> String {
    let name = run_name(run);
    document(
        style,
        &format!("{name}: from ESCAPE-NET to a spiking network"),
        "ESCAPE-NET, from artificial to spiking neurons",
        &name,
        &summary(run),
        &chapters(run, figures, tables, left_out),
    )
}

/// A whole page. All but `lead` and the chapters' bodies, which are HTML, is plain text.
pub(crate) fn document(
    style: &Style,
    title: &str,
    kicker: &str,
    heading: &str,
    lead: &str,
    chapters: &[ChapterText],
) -> String {
    let mut html = String::with_capacity(1 << 20);
    html += "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n";
    html += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n";
    html += "<meta name=\"color-scheme\" content=\"light dark\" />\n";
    html += &format!("<title>{}</title>\n", escape(title));
    html += &format!(
        "<style>\n:root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}.map{{filter:invert(1) \
         hue-rotate(180deg)}}}}\n{CSS}</style>\n</head>\n<body>\n",
        variables(style, false),
        variables(style, true)
    );
    html += &format!(
        "<header>\n{}\n<h1>{}</h1>\n<p class=\"lead\">{lead}</p>\n",
        self::kicker(kicker),
        escape(heading)
    );
    html += "<nav><ul>\n";
    for (id, title, _) in chapters {
        html += &format!("<li><a href=\"#{id}\">{title}</a></li>\n");
    }
    html += "</ul></nav>\n</header>\n<main>\n";
    for (id, title, body) in chapters {
        html += &format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n");
    }
    html += "</main>\n</body>\n</html>\n";
    html
}

/// The line over the title.
pub(crate) fn kicker(text: &str) -> String {
    format!("<p class=\"kicker\">{}</p>", escape(text))
}

/// Anchor, title, HTML.
pub(crate) type ChapterText = (&'static str, &'static str, String);

/// Chapters with content: anchor, title, HTML.
fn chapters(run: &Run, figures: &[Figure], tables: &Tables, left_out: &[LeftOut]) -> Vec<ChapterText> {
    let of = |chapter: Chapter| self::figures(figures.iter().filter(|f| f.chapter == chapter));
    let table = |table: &Option<Table>| table.as_ref().map(Table::html).unwrap_or_default();
    let accuracy = [
        table(&tables.table1),
        of(Chapter::Accuracy),
        table(&tables.front),
        table(&tables.table2),
        table(&tables.table3),
    ];
    let energy = [table(&tables.claims), of(Chapter::Energy), table(&tables.energy), table(&tables.activity)];
    // Figures 1 to 8 in their order.
    let all = [
        ("accuracy", "Accuracy", accuracy.concat()),
        ("input", "What goes in", of(Chapter::Input)),
        ("training", "Training", of(Chapter::Training)),
        ("spikes", "Spikes, layer by layer", of(Chapter::Spikes)),
        ("energy", "Energy and activity", energy.concat()),
        ("run", "How this run was made", run.manifest.as_ref().map(manifest).unwrap_or_default()),
        ("left-out", "Not shown", missing(left_out)),
    ];
    all.into_iter().filter(|(.., body)| !body.is_empty()).collect()
}

fn run_name(run: &Run) -> String {
    let named = run.manifest.as_ref().and_then(|m| m.get("name")).and_then(Value::as_str);
    let folder = || {
        let full = std::fs::canonicalize(&run.folder).unwrap_or_else(|_| run.folder.clone());
        let name = |path: &Path| path.file_name().map(|n| Path::new(n).display().to_string());
        let own = name(&full).unwrap_or_else(|| "run".to_owned());
        // The tables of one seed of a study.
        let above = full.parent().filter(|above| above.ends_with(SEEDS)).and_then(Path::parent);
        match above.and_then(name) {
            Some(study) => format!("{study}, seed {own}"),
            None => own,
        }
    };
    named.map_or_else(folder, str::to_owned)
}

/// The whole run in a paragraph of numbers, as HTML.
fn summary(run: &Run) -> String {
    let tally = Tally::of(run);
    let ann = reference_ann(run);
    let spiking = best_spiking(run);
    let recordings = run.recordings();
    let mut out = Vec::new();
    match (ann, spiking) {
        (Some(a), Some(s)) => {
            let points = 100.0 * (accuracy(run, a).mean - accuracy(run, s).mean);
            let compared = if points.abs() < 0.05 {
                "as many".to_owned()
            } else if points > 0.0 {
                format!("{points:.1} points fewer")
            } else {
                format!("{:.1} points more", -points)
            };
            let of = |e: &Evaluation| text::grouped(e.samples);
            let first = format!("Of {} {recordings}, the ANN", of(a));
            let second = if a.samples == s.samples { String::new() } else { format!(", of {},", of(s)) };
            out.push(format!(
                "{first} classifies <b>{}</b> correctly and the best spiking network, <b>{}</b> ({}, T = {}){second} \
                 <b>{}</b>, {compared}.",
                percent(run, a),
                escape(&s.network),
                s.kind.words(),
                s.timesteps.unwrap_or(0),
                percent(run, s)
            ));
        }
        (Some(e), None) | (None, Some(e)) => out.push(format!(
            "Of {} {recordings}, {} ({}{}) classifies <b>{}</b> correctly.",
            text::grouped(e.samples),
            escape(&e.network),
            e.kind.words(),
            e.timesteps.map_or(String::new(), |t| format!(", T = {t}")),
            percent(run, e)
        )),
        (None, None) => out.push("This run has evaluated no network yet.".to_owned()),
    }
    let seeds = |e: Option<&Evaluation>| e.map_or(1, |e| accuracy(run, e).seeds);
    let [of_ann, of_spiking] = [ann, spiking].map(seeds);
    out.extend(match (of_ann, of_spiking) {
        (1, 1) => None,
        (n, m) if n == m => Some(format!("Both are means over {n} seeds.")),
        (1, n) => Some(format!("The spiking network's is a mean over {n} seeds.")),
        (n, 1) => Some(format!("The ANN's is a mean over {n} seeds.")),
        (n, m) => Some(format!("They are means over {n} and {m} seeds.")),
    });
    if let Some(e) = spiking.or(ann) {
        let largest = largest_class(run, e.samples);
        out.push(match largest {
            Some(share) => format!(
                "Naming the most frequent class throughout would be right for {:.1}%, guessing for {:.1}%.",
                100.0 * share,
                100.0 * chance(run)
            ),
            None => format!("Guessing would be right for {:.1}%.", 100.0 * chance(run)),
        });
    }
    for (e, name) in ann.map(|a| (a, "The ANN".to_owned())).into_iter().chain(
        spiking.map(|s| (s, format!("<b>{}</b>, the best spiking network of this run,", escape(&s.network)))),
    ) {
        match worthless(run, e) {
            Some(Worthless::Guesses) => {
                out.push(format!("{name} is no better than that: it has learned nothing that shows here."));
            }
            Some(Worthless::Silent) => out.push(format!(
                "{name} has a layer that fires no spike: its answers do not come from the recordings, and that it needs little energy \
                 means nothing."
            )),
            None => {}
        }
    }
    let worthy = |s: &&Evaluation| has_energy(run, s) && worthless(run, s).is_none();
    let Some(s) = spiking.filter(worthy) else { return out.join(" ") };
    let saved = |model: &str| {
        let of_seed = |seed: &Run| Tally::of(seed).saving(model, ANN, &s.network);
        over_seeds(run, &s.network, of_seed).map(|saving| saving.mean)
    };
    if let Some(saving) = saved(PUBLISHED) {
        out.push(format!(
            "By the published formula the spiking network needs <b>{}</b> energy than the ANN.",
            times(saving)
        ));
    }
    let arithmetic = tally.itemised().and_then(|model| {
        let saving = saved(&model)?;
        let mut text = format!(
            "Counting every layer, every arriving spike and every membrane update, it needs <b>{}</b> than the ANN in {} \
             arithmetic",
            times(saving),
            escape(&model)
        );
        let own = |claimed: &&Claimed| {
            let claim = claimed.first();
            claim.network == s.network && claim.model == model
        };
        let claims = claims::over_seeds(run);
        let rival = claims.iter().find(own);
        let over = rival.and_then(|claimed| claimed.spread(|claim| Some(claim.quantised?.saving)));
        if let Some((claimed, over)) = rival.zip(over) {
            let but = if (saving >= 1.0) == (over.mean >= 1.0) { "and" } else { "but" };
            text += &format!(
                ", {but} <b>{}</b> than the cheapest ANN that is no less accurate, quantised to {} bits",
                times(over.mean),
                text::several(claimed.bits(|claim| claim.quantised), |bits| bits.to_string())
            );
        }
        Some(text + ".")
    });
    out.extend(arithmetic);
    let memory = tally.itemised_with_memory().and_then(|model| {
        let saving = saved(&model)?;
        let format = escape(model.trim_end_matches("+memory"));
        Some(format!(
            "With the traffic to memory, computing in {format}, it needs <b>{}</b> than the ANN in fp32.",
            times(saving)
        ))
    });
    out.extend(memory);
    out.join(" ")
}

/// `76.5 ± 3.0%`: the accuracy and its standard error, of recordings and seeds.
fn percent(run: &Run, e: &Evaluation) -> String {
    let spread = accuracy(run, e);
    let error = match spread.deviation {
        Some(_) => spread.standard_error(e.samples as f64),
        None => standard_error(e),
    };
    let error = if error.is_finite() { format!(" \u{b1} {:.1}", 100.0 * error) } else { String::new() };
    format!("{:.1}{error}%", 100.0 * spread.mean)
}

fn times(saving: f64) -> String {
    let number = |ratio: f64| text::ratio(ratio).trim_end_matches('x').to_owned();
    if saving >= 1.0 {
        format!("{} times less", number(saving))
    } else {
        format!("{} times more", number(1.0 / saving))
    }
}

/// Figures beside each other, where the screen is wide enough.
pub(crate) fn figures<'f>(figures: impl Iterator<Item = &'f Figure>) -> String {
    let figures: String = figures.map(figure).collect();
    if figures.is_empty() { figures } else { format!("<div class=\"figures\">\n{figures}</div>\n") }
}

fn figure(figure: &Figure) -> String {
    let stem = &figure.stem;
    let links =
        EXTENSIONS.map(|e| format!("<a href=\"../figures/{stem}.{e}\">{}</a>", e.to_uppercase())).join(" ");
    let (class, svg) = if figure.wide {
        (" class=\"whole\"", format!("<div class=\"wide\">{}</div>", figure.svg))
    } else {
        ("", figure.svg.clone())
    };
    format!(
        "<figure id=\"{stem}\"{class}>\n{svg}<figcaption><b>{}.</b> {} <span class=\"files\">{links}\
         </span></figcaption>\n</figure>\n",
        escape(figure.label.as_str()),
        escape(&figure.caption)
    )
}

/// Settings as a table.
pub(crate) fn manifest(manifest: &Map<String, Value>) -> String {
    let mut rows = Vec::new();
    flatten("", manifest, 0, &mut rows);
    let mut html = "<div class=\"wide\"><table class=\"facts\"><tbody>\n".to_owned();
    for (key, value) in rows {
        html += &format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(&key), escape(&value));
    }
    html + "</tbody></table></div>\n"
}

/// Nested objects as dotted keys, down to a depth at which JSON reads no worse.
fn flatten(prefix: &str, object: &Map<String, Value>, depth: usize, rows: &mut Vec<(String, String)>) {
    for (key, value) in object {
        let key = format!("{prefix}{key}");
        match value {
            Value::Object(inner) if depth < 3 && !inner.is_empty() => {
                flatten(&format!("{key}."), inner, depth + 1, rows)
            }
            Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
                let between = if key == "command" || key.ends_with(".command") { " " } else { ", " };
                rows.push((key, items.iter().map(plain).collect::<Vec<_>>().join(between)));
            }
            Value::Array(items) if depth < 3 && items.iter().all(Value::is_object) => {
                for (i, inner) in
                    items.iter().enumerate().filter_map(|(i, item)| Some((i, item.as_object()?)))
                {
                    flatten(&format!("{key}.{i}."), inner, depth + 1, rows);
                }
            }
            other => rows.push((key, plain(other))),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn missing(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let mut html =
        "<p>The run folder has no data for these. Each appears once its files are there.</p>\n<ul>\n"
            .to_owned();
    for item in left_out {
        html += &format!("<li>{}</li>\n", escape(&item.to_string()));
    }
    html + "</ul>\n"
}

const CSS: &str = r"
*{box-sizing:border-box}
body{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:68rem;background:var(--c-paper);color:var(--c-text);
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif;
-webkit-text-size-adjust:100%}
h1{font-size:2rem;line-height:1.2;margin:.1rem 0 1rem;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:3.5rem 0 1.25rem;padding-top:.9rem;border-top:2px solid var(--c-text)}
.kicker{margin:0;color:var(--c-muted);font-size:.875rem}
.lead{font-size:1.09rem;margin:0 0 1.25rem;max-width:44rem}
a{color:var(--c-0)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.25rem;margin:0;padding:0;font-size:.9rem}
.wide{overflow-x:auto;max-width:100%;background:linear-gradient(to right,var(--c-paper) 40%,transparent) 0 0/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--c-paper) 40%,transparent) 100% 0/2.5rem 100% no-repeat local,
linear-gradient(to right,var(--c-axis),transparent) 0 0/.9rem 100% no-repeat scroll,
linear-gradient(to left,var(--c-axis),transparent) 100% 0/.9rem 100% no-repeat scroll}
.hint{display:none}
table{border-collapse:collapse;font-size:.84rem;line-height:1.35;font-variant-numeric:tabular-nums;min-width:min(100%,36rem)}
caption{text-align:left;font-weight:600;font-size:.95rem;padding:0 0 .5rem}
th,td{padding:.36rem .8rem .36rem 0;text-align:left;vertical-align:baseline}
th:last-child,td:last-child{padding-right:0}
thead th{font-weight:500;color:var(--c-muted);border-bottom:1px solid var(--c-axis);vertical-align:bottom}
tbody tr{border-bottom:1px solid var(--c-grid)}
tr.group td{border-top:1px solid var(--c-axis)}
.n{text-align:right}
.study{color:var(--c-muted);font-style:italic}
thead .n{max-width:6.5rem}
.n,.study{white-space:nowrap}thead .n{white-space:normal}
td:not(.n){max-width:12rem}
td:first-child{white-space:nowrap;max-width:none}#table1 td:nth-child(2){min-width:9.5rem}#front-table td:not(.n){min-width:7.5rem}
#claims td:first-child{white-space:normal;min-width:8.5rem}#claims td:nth-child(2){min-width:9rem}
.note{font-size:.84rem;color:var(--c-muted);margin:.6rem 0 2.2rem;max-width:44rem}
.note+.note{margin-top:-1.7rem}
.facts th{font-weight:500;color:var(--c-muted);white-space:nowrap}
.facts td:not(.n){max-width:none;white-space:normal;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,25rem),1fr));gap:0 2.5rem;align-items:start}
figure{margin:0 0 2.6rem;max-width:32rem;min-width:0}
figure.whole{grid-column:1/-1;max-width:50rem}
figure svg{display:block;width:100%;height:auto}
.whole svg{min-width:560px}
figcaption{font-size:.875rem;color:var(--c-muted);margin-top:.35rem;max-width:44rem}
figcaption b{color:var(--c-text)}
.files{font-size:.78rem;white-space:nowrap}
li{margin:.2rem 0}
@media (max-width:40rem){body{padding:1.25rem .9rem 3rem}h1{font-size:1.6rem}h2{margin-top:2.5rem}
.hint{display:block;font-size:.8rem;color:var(--c-muted);margin:0 0 .4rem}}
@media print{body{max-width:none;padding:0;font-size:10.5pt}nav,.files{display:none}a{color:inherit}
figure,table{break-inside:avoid}h2{break-after:avoid}.wide{overflow:visible;background:none}.hint{display:none}.whole svg{min-width:0}
table{font-size:8pt}td{white-space:normal}}
";
