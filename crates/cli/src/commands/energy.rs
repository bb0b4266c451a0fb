//! `escape-snn energy`

use anyhow::Result;
use escape_energy::{PUBLISHED, Published, published};
use escape_report::ratio;
use escape_study::energy::{NetworkEnergy, is_of_study, of_run};
use escape_study::folder::wait_for;
use escape_study::session::usage;
use serde::Serialize;

use super::table;
use crate::args::EnergyArgs;
use crate::context::Context;

#[derive(Serialize)]
struct Report {
    published: Published,
}

pub fn run(context: &Context, args: EnergyArgs) -> Result<()> {
    let session = &context.session;
    match (&args.rates, &args.run) {
        (Some(rates), _) => {
            let report = Report { published: published(rates).map_err(|e| usage(e.to_string()))? };
            context.result(&report, || {
                let p = &report.published;
                format!(
                    "published formula, convolutions only: ANN {:.1} uJ, SNN {:.2} uJ a recording; normalised {:.4}, {} less\n(the study prints its constants as mJ; they are pJ)",
                    p.e_ann_pj / 1e6,
                    p.e_snn_pj / 1e6,
                    p.normalised,
                    ratio(p.saving)
                )
            })
        }
        (None, Some(run)) => {
            let held = wait_for(session, run);
            let reports = of_run(run, args.constants.as_deref())?;
            drop(held);
            if is_of_study(run) {
                session.note(
                    "note: of a study these are the networks of one seed; its report has means over all",
                );
            }
            for silent in reports.iter().filter(|r| r.silent) {
                session.note(format!(
                    "note: {} has a layer that fires no spike; that it needs little energy means nothing",
                    silent.network
                ));
            }
            for other in reports.iter().filter(|r| r.other_layers) {
                session.note(format!(
                    "note: {} has other layers than the ANN that it stands beside, and saves what it is smaller by too; in a folder of \
                     its own it stands beside its own ANN",
                    other.network
                ));
            }
            context.result(&reports, || text(&reports))
        }
        (None, None) => Err(usage("give --rates R1,R2,R3 or --run DIR")),
    }
}

fn text(reports: &[NetworkEnergy]) -> String {
    let head = [
        "network",
        "model",
        "SNN uJ",
        "fp32 ANN uJ",
        "fp32/SNN",
        "skipping/SNN",
        "quantised/SNN",
        "q. skipping/SNN",
        "claim",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for r in reports {
        let ratio = |saving: Option<f64>| match saving.filter(|_| !r.silent) {
            Some(saving) => format!("{saving:.2}"),
            None => "-".to_owned(),
        };
        let microjoules = |pj: f64| format!("{:.3}", pj / 1e6);
        let quantised = |saving: Option<f64>, bits: Option<u32>| match bits {
            Some(bits) => format!("{} ({bits} bits)", ratio(saving)),
            None => "-".to_owned(),
        };
        if let Some(p) = &r.published {
            let mut row =
                vec![r.network.clone(), PUBLISHED.into(), microjoules(p.e_snn_pj), microjoules(p.e_ann_pj)];
            row.push(format!("{:.2}", p.saving));
            row.resize(head.len(), String::new());
            rows.push(row);
        }
        for m in &r.models {
            rows.push(vec![
                r.network.clone(),
                m.model.into(),
                microjoules(m.snn_pj),
                microjoules(m.ann_pj),
                ratio(Some(m.saving)),
                ratio(m.saving_over_skipping),
                quantised(m.saving_over_quantised, m.quantised_bits),
                quantised(m.saving_over_quantised_skipping, m.quantised_skipping_bits),
                m.claim.unwrap_or("-").into(),
            ]);
        }
    }
    table(&rows)
}
