//! What every network of a folder costs, in its own number format, beside what it is worth: spiking networks, and the ANNs that they
//! come from, quantised and in full precision, with and without what is zero in them.

use std::path::Path;

use anyhow::Result;
use escape_energy::{ANN, AnnBits, Constants, LayerActivity, Model, NetworkActivity, Traffic};
use escape_energy::{ann_energy, energy, stored_bits, total};
use escape_report::rows::{Activity, AnnActivity, Evaluation, Front, read_table};

use crate::energy::{ann_layer, measured};
use crate::folder::BEST;

/// What is counted of memory, in the order of a row's energies.
const TRAFFIC: [Traffic; 3] = [Traffic::None, Traffic::LayerByLayer, Traffic::ByEvent];
/// Bits of a number where there are no whole ones.
const FLOAT_BITS: u32 = 32;

/// What the networks of a folder cost, as its tables say: those evaluated at the T that its activity is of.
///
/// # Errors
/// A table cannot be read; counts that cannot be.
pub fn rows(folder: &Path, constants: &Constants) -> Result<Vec<Front>> {
    let activity: Vec<Activity> = read_table(folder)?;
    let ann_activity: Vec<AnnActivity> = read_table(folder)?;
    let mut rows = Vec::new();
    for judged in &read_table::<Evaluation>(folder)? {
        match judged.kind.is_spiking() {
            true => rows.extend(spiking(folder, judged, &activity, constants)?),
            false => rows.extend(ann(folder, judged, &ann_activity, constants)?),
        }
    }
    Ok(rows)
}

/// A row without its costs.
fn row(judged: &Evaluation) -> Front {
    Front {
        network: judged.network.clone(),
        kind: judged.kind,
        ann: ANN.to_owned(),
        timesteps: judged.timesteps,
        seed: None,
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

/// A file's name, if it is in the folder.
fn there(folder: &Path, name: String) -> Option<String> {
    folder.join(&name).is_file().then_some(name)
}

/// Of layers with so many weights, and so many that are not zero.
fn kilobytes(weights: impl Iterator<Item = (u64, Option<u64>)>, bits: Option<u32>) -> f64 {
    let bits = f64::from(bits.unwrap_or(FLOAT_BITS));
    weights.map(|(weights, nonzero)| stored_bits(weights, nonzero, bits)).sum::<f64>() / 8e3
}

fn spiking(
    folder: &Path,
    judged: &Evaluation,
    activity: &[Activity],
    constants: &Constants,
) -> Result<Option<Front>> {
    if activity.iter().all(|row| row.network != judged.network) {
        return Ok(None);
    }
    let did = measured(activity, &judged.network);
    if judged.timesteps != Some(did.timesteps) {
        return Ok(None);
    }
    let cost = |traffic| {
        let model = Model::own(did.weight_bits, traffic);
        energy(&judged.network, &did, &model, constants).map(|parts| total(&parts))
    };
    let [arithmetic_pj, memory_pj, events_pj] = each(TRAFFIC, cost)?;
    Ok(Some(Front {
        bits: did.weight_bits,
        input_bits: did.weight_bits.map(|_| did.input_bits),
        skips: true,
        kilobytes: kilobytes(did.layers.iter().map(|l| (l.weights, l.nonzero_weights)), did.weight_bits),
        multiplications: multiplications(&did),
        additions: additions(&did),
        arithmetic_pj,
        memory_pj,
        events_pj,
        checkpoint: there(folder, format!("{}.pth", judged.network)),
        ..row(judged)
    }))
}

fn multiplications(did: &NetworkActivity) -> f64 {
    let analog = did.layers.iter().filter(|layer| layer.analog_input);
    analog.map(|layer| layer.nonzero_macs.unwrap_or(layer.macs as f64)).sum()
}

fn additions(did: &NetworkActivity) -> f64 {
    let steps = f64::from(did.timesteps);
    let caused = |l: &LayerActivity| l.nonzero_operations.unwrap_or(l.synaptic_operations_per_sample);
    did.layers.iter().map(|l| caused(l) + l.neurons as f64 * steps).sum()
}

fn ann(
    folder: &Path,
    judged: &Evaluation,
    activity: &[AnnActivity],
    constants: &Constants,
) -> Result<Vec<Front>> {
    let theirs: Vec<&AnnActivity> = activity.iter().filter(|row| row.network == judged.network).collect();
    let Some(first) = theirs.first() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let bits = first.bits.zip(first.input_bits).map(|(bits, input_bits)| AnnBits { bits, input_bits });
    let did = escape_energy::AnnActivity { bits, layers: theirs.iter().map(|row| ann_layer(row)).collect() };
    for skips in [false, true] {
        // An ANN computes in its own format, whatever the model's.
        let cost = |traffic| {
            let model = Model::own(None, traffic);
            ann_energy(&did, skips, &model, constants).map(|parts| total(&parts))
        };
        let [arithmetic_pj, memory_pj, events_pj] = each(TRAFFIC, cost)?;
        let nonzero =
            |row: &AnnActivity| row.nonzero_weight_macs_per_sample.unwrap_or(row.nonzero_macs_per_sample);
        let macs = |row: &&AnnActivity| if skips { nonzero(row) } else { row.macs as f64 };
        let stored = |row: &&AnnActivity| (row.weights, row.nonzero_weights.filter(|_| skips));
        found.push(Front {
            network: ANN.to_owned(),
            bits: first.bits,
            input_bits: first.input_bits,
            skips,
            kilobytes: kilobytes(theirs.iter().map(stored), first.bits),
            multiplications: theirs.iter().map(macs).sum(),
            arithmetic_pj,
            memory_pj,
            events_pj,
            checkpoint: there(folder, format!("ann/{BEST}")).filter(|_| first.bits.is_none()),
            ..row(judged)
        });
    }
    Ok(found)
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
