//! `escape-snn energy`

use anyhow::Result;
use escape_energy::{PUBLISHED, Published, published};
use escape_study::energy::{NetworkEnergy, of_run};
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
                    "published formula, convolutions only: ANN {:.1} uJ, SNN {:.2} uJ a recording; normalised {:.4}, {:.1}x less\n(the study prints its constants as mJ; they are pJ)",
                    p.e_ann_pj / 1e6,
                    p.e_snn_pj / 1e6,
                    p.normalised,
                    p.saving
                )
            })
        }
        (None, Some(run)) => {
            let held = wait_for(session, run);
            let reports = of_run(run)?;
            drop(held);
            for silent in reports.iter().filter(|r| r.silent) {
                session.note(format!(
                    "note: {} has a layer that fires no spike; that it needs little energy means nothing",
                    silent.network
                ));
            }
            context.result(&reports, || text(&reports))
        }
        (None, None) => Err(usage("give --rates R1,R2,R3 or --run DIR")),
    }
}

fn text(reports: &[NetworkEnergy]) -> String {
    let head = ["network", "model", "ANN uJ", "quantised ANN uJ", "SNN uJ", "ANN/SNN", "quantised/SNN"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for r in reports {
        if let Some(p) = &r.published {
            let [ann, snn] = [p.e_ann_pj, p.e_snn_pj].map(|pj| format!("{:.3}", pj / 1e6));
            let saving = format!("{:.2}", p.saving);
            rows.push(vec![
                r.network.clone(),
                PUBLISHED.into(),
                ann,
                String::new(),
                snn,
                saving,
                String::new(),
            ]);
        }
        for m in &r.models {
            let t = &m.totals;
            let [ann, quantised, snn] =
                [t.ann_pj, t.quantised_pj, t.snn_pj].map(|pj| format!("{:.3}", pj / 1e6));
            let ratio = |ratio: f64| if r.silent { "-".to_string() } else { format!("{ratio:.2}") };
            let [full, fair] = [t.saving, t.saving_over_quantised].map(ratio);
            rows.push(vec![r.network.clone(), m.model.into(), ann, quantised, snn, full, fair]);
        }
    }
    table(&rows)
}
