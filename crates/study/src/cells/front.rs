//! What every network of a study costs, in its own number format, beside what it is worth: spiking networks, and the ANNs that they
//! come from, quantised and in full precision, with and without what is zero in them.

use std::path::Path;

use anyhow::Result;
use escape_energy::{AnnBits, AnnLayer, Constants, Model, NetworkActivity, Nonzero, Traffic};
use escape_energy::{ann_energy, energy, total};
use escape_report::rows::{Activity, AnnActivity, Evaluation, Front, read_table};

use super::{CELLS, Cell, CellKind};
use crate::energy::{constants, measured};
use crate::folder::BEST;

/// What is counted of memory, in the order of a row's energies.
const TRAFFIC: [Traffic; 3] = [Traffic::None, Traffic::LayerByLayer, Traffic::ByEvent];
/// Bits of a number where there are no whole ones.
const FLOAT_BITS: u32 = 32;

/// The rows of the cells that are done.
///
/// # Errors
/// A table or the file of constants cannot be read; counts that cannot be.
pub fn rows(study: &Path, done: &[&Cell], given: Option<&Path>) -> Result<Vec<Front>> {
    let constants = match given {
        Some(path) => constants(path)?.0,
        None => Constants::default(),
    };
    let mut rows = Vec::new();
    for cell in done {
        match cell.kind {
            CellKind::Data | CellKind::Teacher => {}
            CellKind::Ann => rows.extend(anns(study, cell, &constants)?),
            CellKind::Convert | CellKind::Finetune => rows.extend(spiking(study, cell, &constants)?),
        }
    }
    Ok(rows)
}

/// A row without its costs.
fn row(cell: &Cell, judged: &Evaluation) -> Front {
    Front {
        network: cell.entry.clone(),
        kind: judged.kind,
        ann: cell.ann.clone(),
        timesteps: judged.timesteps,
        seed: cell.seed,
        bits: None,
        input_bits: None,
        skips: false,
        samples: judged.samples,
        accuracy: judged.accuracy,
        kilobytes: 0.0,
        multiplications: 0.0,
        additions: 0.0,
        arithmetic_pj: 0.0,
        memory_pj: 0.0,
        events_pj: 0.0,
        checkpoint: None,
    }
}

fn kilobytes(weights: impl Iterator<Item = u64>, bits: Option<u32>) -> f64 {
    weights.sum::<u64>() as f64 * f64::from(bits.unwrap_or(FLOAT_BITS)) / 8e3
}

fn spiking(study: &Path, cell: &Cell, constants: &Constants) -> Result<Option<Front>> {
    let folder = cell.path(study);
    let activity: Vec<Activity> = read_table(&folder)?;
    let evaluations: Vec<Evaluation> = read_table(&folder)?;
    let own = |e: &&Evaluation| {
        e.network == cell.network() && e.timesteps == cell.timesteps.and_then(|t| u32::try_from(t).ok())
    };
    let (Some(judged), true) =
        (evaluations.iter().find(own), activity.iter().any(|row| row.network == cell.network()))
    else {
        return Ok(None);
    };
    let did = measured(&activity, cell.network());
    let model = |traffic| match did.weight_bits {
        Some(bits) => Model::own(bits, traffic),
        None => Model { name: "own bits", bits: None, traffic, skips_input: true },
    };
    let cost = |traffic| energy(&cell.entry, &did, &model(traffic), constants).map(|parts| total(&parts));
    let [arithmetic_pj, memory_pj, events_pj] = each(TRAFFIC, cost)?;
    Ok(Some(Front {
        bits: did.weight_bits,
        input_bits: did.weight_bits.map(|_| did.input_bits),
        skips: true,
        kilobytes: kilobytes(did.layers.iter().map(|layer| layer.weights), did.weight_bits),
        multiplications: multiplications(&did),
        additions: additions(&did),
        arithmetic_pj,
        memory_pj,
        events_pj,
        checkpoint: Some(format!("{CELLS}/{}/{}.pth", cell.folder, cell.entry)),
        ..row(cell, judged)
    }))
}

fn multiplications(did: &NetworkActivity) -> f64 {
    let analog = did.layers.iter().filter(|layer| layer.analog_input);
    analog.map(|layer| layer.nonzero_macs.unwrap_or(layer.macs as f64)).sum()
}

fn additions(did: &NetworkActivity) -> f64 {
    let steps = f64::from(did.timesteps);
    did.layers.iter().map(|l| l.synaptic_operations_per_sample + l.neurons as f64 * steps).sum()
}

fn anns(study: &Path, cell: &Cell, constants: &Constants) -> Result<Vec<Front>> {
    let folder = cell.path(study);
    let activity: Vec<AnnActivity> = read_table(&folder)?;
    let mut found = Vec::new();
    for judged in read_table::<Evaluation>(&folder)?.iter().filter(|e| !e.kind.is_spiking()) {
        let theirs: Vec<&AnnActivity> = activity.iter().filter(|row| row.network == judged.network).collect();
        let Some(first) = theirs.first() else { continue };
        let layer = |row: &&AnnActivity| AnnLayer {
            layer: row.layer.clone(),
            macs: row.macs,
            neurons: row.neurons,
            sent: row.sent,
            weights: row.weights,
            nonzero: Some(Nonzero { macs: row.nonzero_macs_per_sample, sent: row.nonzero_sent_per_sample }),
        };
        let bits = first.bits.zip(first.input_bits).map(|(bits, input_bits)| AnnBits { bits, input_bits });
        let did = escape_energy::AnnActivity { bits, layers: theirs.iter().map(layer).collect() };
        for skips in [false, true] {
            // An ANN computes in its own format, whatever the model's.
            let cost = |traffic| {
                let model = Model::own(FLOAT_BITS, traffic);
                ann_energy(&did, skips, &model, constants).map(|parts| total(&parts))
            };
            let [arithmetic_pj, memory_pj, events_pj] = each(TRAFFIC, cost)?;
            let macs = |row: &&AnnActivity| if skips { row.nonzero_macs_per_sample } else { row.macs as f64 };
            found.push(Front {
                bits: first.bits,
                input_bits: first.input_bits,
                skips,
                kilobytes: kilobytes(theirs.iter().map(|row| row.weights), first.bits),
                multiplications: theirs.iter().map(macs).sum(),
                arithmetic_pj,
                memory_pj,
                events_pj,
                checkpoint: first.bits.is_none().then(|| checkpoint(cell)),
                ..row(cell, judged)
            });
        }
    }
    Ok(found)
}

/// The file of an ANN that was trained here, or the one that was given.
fn checkpoint(cell: &Cell) -> String {
    let given = cell.settings["ann"]["checkpoint"].as_str().map(str::to_owned);
    given.unwrap_or_else(|| format!("{CELLS}/{}/ann/{BEST}", cell.folder))
}

/// All values of a function that can fail.
fn each<T, R, E, const N: usize>(of: [T; N], with: impl Fn(T) -> Result<R, E>) -> Result<[R; N], E>
where
    R: Default + Copy,
{
    let mut found = [R::default(); N];
    for (found, of) in found.iter_mut().zip(of) {
        *found = with(of)?;
    }
    Ok(found)
}
