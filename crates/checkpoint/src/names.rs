//! The names of weights: wrappers taken off, renamed as asked, and a prefix taken off where they then are a network's.

use std::collections::HashSet;

use escape_files::text::shown;

use super::error::CheckpointError;
use super::report::nearest;
use super::value::TensorData;
use crate::identify::{Identity, prefixes, prefixes_of};
use escape_network::arch::Architecture;
use escape_network::sequential::Sequential;

/// What PyTorch's `DataParallel` puts before names, and the study's files have.
pub(crate) const MODULE: &str = "module.";
/// What other wrappers put before names or between their parts: `torch.compile`, fully sharded data parallel,
/// checkpointed activations.
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// What a network's names begin with where it is an attribute of what was saved.
const ATTRIBUTES: [&str; 5] = ["model.", "net.", "network.", "ann.", "snn."];

type Weights = Vec<(String, TensorData)>;

/// A name without what wrappers put before it, and whether `module.` was among that.
pub(crate) fn unwrapped(name: &str) -> (String, bool) {
    let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
    if path.is_empty() {
        return (name.to_owned(), false);
    }
    let kept =
        path.split('.').filter(|part| !WRAPPERS.contains(part)).chain([last]).collect::<Vec<_>>().join(".");
    let mut rest = kept.as_str();
    while let Some(shorter) = rest.strip_prefix(MODULE) {
        rest = shorter;
    }
    (rest.to_owned(), rest.len() < kept.len())
}

/// What a name is called by a rule for `old`, which is a whole name, a part of it up to a dot, or that with the dot.
fn replaced(name: &str, old: &str, new: &str) -> Option<String> {
    if name == old {
        return Some(new.to_owned());
    }
    let (old, new) = (old.strip_suffix('.').unwrap_or(old), new.strip_suffix('.').unwrap_or(new));
    let rest = name.strip_prefix(old)?.strip_prefix('.')?;
    Some(if new.is_empty() { rest.to_owned() } else { format!("{new}.{rest}") })
}

/// Renames; says how many names it changed.
///
/// # Errors
/// [`CheckpointError::Choice`] if no name is, or begins with, `old`, or a new name is empty or there already.
pub(crate) fn rename(weights: &mut Weights, old: &str, new: &str) -> Result<usize, CheckpointError> {
    // As messages show the names, and as the file has them.
    let old = [old.to_owned(), unwrapped(old).0];
    let matches = |old: &str| weights.iter().filter(|(name, _)| replaced(name, old, new).is_some()).count();
    let Some(used) = old.iter().find(|old| matches(old) > 0) else {
        return Err(no_such("--rename", &old[0], weights));
    };
    let mut changed = 0;
    for (name, _) in weights.iter_mut() {
        if let Some(renamed) = replaced(name, used, new) {
            if renamed.is_empty() {
                let problem = format!(
                    "--rename {}=: leaves no name; leave the tensor out with --ignore {0}",
                    shown(used)
                );
                return Err(CheckpointError::choice(problem));
            }
            *name = renamed;
            changed += 1;
        }
    }
    distinct(weights).map_err(|twice| {
        CheckpointError::choice(format!(
            "--rename {}={}: there are two tensors {} then",
            shown(used),
            shown(new),
            shown(&twice)
        ))
    })?;
    Ok(changed)
}

/// Whether a rule for names means this one: the whole of it, or a part up to a dot.
pub(crate) fn is_meant(name: &str, rule: &str) -> bool {
    [rule, &unwrapped(rule).0].iter().any(|rule| replaced(name, rule, "").is_some())
}

/// Leaves tensors out; says how many.
///
/// # Errors
/// [`CheckpointError::Choice`] if no name is, or begins with, `ignored`.
pub(crate) fn ignore(weights: &mut Weights, ignored: &str) -> Result<usize, CheckpointError> {
    let before = weights.len();
    weights.retain(|(name, _)| !is_meant(name, ignored));
    if weights.len() == before {
        return Err(no_such("--ignore", ignored, weights));
    }
    Ok(before - weights.len())
}

fn no_such(option: &str, name: &str, weights: &Weights) -> CheckpointError {
    const SHOWN: usize = 8;
    let shapes: Vec<_> = weights.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let meant = match nearest(name, &[], &shapes) {
        Some(near) => format!("did you mean {}?", shown(near)),
        None => {
            let some: Vec<String> = weights.iter().take(SHOWN).map(|(name, _)| shown(name)).collect();
            let more = if weights.len() > SHOWN { ", ..." } else { "" };
            format!("there is: {}{more}", some.join(", "))
        }
    };
    CheckpointError::choice(format!("{option} {}: no tensor is called so or begins so; {meant}", shown(name)))
}

/// The first name that is there twice.
pub(crate) fn distinct(weights: &Weights) -> Result<(), String> {
    let mut seen = HashSet::new();
    match weights.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        Some((twice, _)) => Err(twice.clone()),
        None => Ok(()),
    }
}

/// Takes a prefix off the names if they then are those of a network that this program knows: of the family, whatever
/// else is there; or, if it is common to all names, of another one. One that says no more than that the network was
/// an attribute is taken off in any case. Returns it.
///
/// # Errors
/// [`CheckpointError::Content`] if several prefixes would do.
pub(crate) fn fit(weights: &mut Weights) -> Result<Option<String>, CheckpointError> {
    let names = |weights: &Weights| weights.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut found = prefixes(&names(weights));
    if found.is_empty() {
        // `DataParallel` around a part of the network.
        let inner: Vec<String> = names(weights).iter().map(|name| name.replace(".module.", ".")).collect();
        found = prefixes(&inner);
        if !found.is_empty() {
            weights.iter_mut().zip(inner).for_each(|((name, _), inner)| *name = inner);
        }
    }
    match &found[..] {
        [] => Ok(fit_other(weights)),
        [prefix, ..] if prefix.is_empty() => Ok(None),
        [prefix] => {
            strip(weights, prefix);
            Ok(Some(prefix.clone()))
        }
        [first, second, ..] => {
            let list = found.iter().take(8).map(|p| format!("'{}'", shown(p))).collect::<Vec<_>>().join(", ");
            let other = second.strip_suffix('.').unwrap_or(second);
            let got = format!(
                "several, under {list}; choose one, say with --rename {}= --ignore {}",
                shown(first),
                shown(other)
            );
            Err(CheckpointError::content("the names of the weights", "one network", got))
        }
    }
}

/// Takes a prefix off the names if they then are those of a network that is described, whatever else is there; returns it.
pub(crate) fn fit_to(weights: &mut Weights, network: &Sequential) -> Option<String> {
    let parameters: Vec<String> = network.parameters().into_iter().map(|p| p.name).collect();
    let names: Vec<String> = weights.iter().map(|(name, _)| name.clone()).collect();
    // As they are before all, then under the shortest.
    let found = prefixes_of(&names, &parameters).into_iter().min_by_key(String::len);
    let prefix = found.filter(|prefix| !prefix.is_empty())?;
    strip(weights, &prefix);
    Some(prefix)
}

fn fit_other(weights: &mut Weights) -> Option<String> {
    if !matches!(Identity::of(weights), Identity::Other { .. }) {
        return None;
    }
    let common = common_prefix(weights);
    if common.is_empty() {
        return None;
    }
    strip(weights, &common);
    if !matches!(Identity::of(weights), Identity::Other { .. }) {
        return Some(common);
    }
    // Not known either way: only what is no name of a layer.
    let mut attribute = String::new();
    while let Some(next) = ATTRIBUTES
        .iter()
        .find(|next| common.get(attribute.len()..).is_some_and(|rest| rest.starts_with(**next)))
    {
        attribute.push_str(next);
    }
    let kept = common.get(attribute.len()..).unwrap_or_default();
    weights.iter_mut().for_each(|(name, _)| name.insert_str(0, kept));
    Some(attribute).filter(|attribute| !attribute.is_empty())
}

/// What all names begin with, up to a dot.
fn common_prefix(weights: &Weights) -> String {
    let Some((first, _)) = weights.first() else { return String::new() };
    let mut common = first.rfind('.').map_or("", |end| &first[..=end]);
    for (name, _) in weights {
        while !name.starts_with(common) {
            let shorter = common.strip_suffix('.').unwrap_or_default();
            common = shorter.rfind('.').map_or("", |end| &shorter[..=end]);
        }
    }
    common.to_owned()
}

fn strip(weights: &mut Weights, prefix: &str) {
    for (name, _) in weights {
        if let Some(rest) = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            *name = rest.to_owned();
        }
    }
}

/// Takes out what belongs to a loss or a measure and not to the network, if the network is whole without; returns
/// their names.
pub(crate) fn without_losses(weights: &mut Weights) -> Vec<String> {
    let names: HashSet<&str> = weights.iter().map(|(name, _)| name.as_str()).collect();
    let member = Architecture::ALL.into_iter().any(|arch| {
        let parameters = arch.parameters();
        parameters.iter().all(|(name, _)| names.contains(name.as_str()))
    });
    let mut losses = Vec::new();
    if member {
        weights.retain(|(name, _)| {
            let keep = !is_loss(name);
            if !keep {
                losses.push(name.clone());
            }
            keep
        });
    }
    losses
}

fn is_loss(name: &str) -> bool {
    let part = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is = ["loss", "losses", "criterion", "metric", "metrics"];
    name.contains('.')
        && is.iter().any(|word| {
            part == *word || part.starts_with(&format!("{word}_")) || part.ends_with(&format!("_{word}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Weights {
        names.iter().map(|name| (name.to_string(), TensorData::from_f32(&[1], &[0.0]))).collect()
    }

    fn names(weights: &Weights) -> Vec<&str> {
        weights.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn modified(prefix: &str) -> Vec<String> {
        let parameters = Architecture::Modified.parameters();
        parameters.into_iter().map(|(name, _)| format!("{prefix}{name}")).collect()
    }

    fn with(all: &[String], more: &[&str]) -> Weights {
        let all: Vec<&str> = all.iter().map(String::as_str).chain(more.iter().copied()).collect();
        named(&all)
    }

    #[test]
    fn wrappers_are_taken_off() {
        let of = |name: &str| unwrapped(name);
        assert_eq!(of("module.features.0.weight"), ("features.0.weight".into(), true));
        assert_eq!(of("_orig_mod.module.module.a"), ("a".into(), true));
        assert_eq!(of("module._orig_mod.a"), ("a".into(), true));
        assert_eq!(of("features._orig_mod.0.weight"), ("features.0.weight".into(), false));
        assert_eq!(of("my_orig_mod.a"), ("my_orig_mod.a".into(), false));
        assert_eq!(of("modules.a"), ("modules.a".into(), false));
    }

    #[test]
    fn whole_names_and_prefixes_are_renamed() {
        let renamed = |old: &str, new: &str| {
            let mut weights = named(&["conv1.weight", "conv1.bias", "conv10.weight"]);
            rename(&mut weights, old, new).map(|n| (n, names(&weights).join(" "))).map_err(|e| e.to_string())
        };
        assert_eq!(
            renamed("conv1", "features.0").unwrap(),
            (2, "features.0.weight features.0.bias conv10.weight".into())
        );
        assert_eq!(renamed("conv1.", "f.").unwrap().0, 2);
        assert_eq!(renamed("conv1.bias", "b").unwrap(), (1, "conv1.weight b conv10.weight".into()));
        assert_eq!(renamed("conv10.", "").unwrap(), (1, "conv1.weight conv1.bias weight".into()));
        assert_eq!(renamed("module.conv10", "c").unwrap().0, 1);
        let message = renamed("conv2.weigth", "x").unwrap_err();
        assert!(
            message.contains("no tensor is called so") && message.contains("did you mean conv1.weight"),
            "{message}"
        );
        assert!(renamed("conv10", "conv1").unwrap_err().contains("two tensors conv1.weight"));
        assert!(renamed("conv1.bias", "").unwrap_err().contains("--ignore conv1.bias"));
        let mut weights = named(&["a.b", "a.c", "ab"]);
        assert_eq!(ignore(&mut weights, "a").unwrap(), 2);
        assert_eq!(names(&weights), ["ab"]);
        assert!(ignore(&mut weights, "a").is_err());
    }

    #[test]
    fn a_prefix_is_taken_off_where_a_network_is_under_it() {
        for prefix in ["model.", "net.", "anything.else.", "a.module."] {
            let mut weights = with(&modified(prefix), &["criterion.weight", "epoch_counter"]);
            assert_eq!(fit(&mut weights).unwrap().as_deref(), Some(prefix));
            assert_eq!(names(&weights)[..5], modified("")[..]);
            assert_eq!(without_losses(&mut weights), ["criterion.weight"]);
            assert_eq!(weights.len(), 6);
        }
        // Already a network; a loss alone is none.
        let mut weights = with(&modified(""), &["model.x"]);
        assert_eq!(fit(&mut weights).unwrap(), None);
        assert!(without_losses(&mut named(&["loss.weight"])).is_empty());
        // Around a part of it only.
        let inner: Vec<String> =
            modified("").iter().map(|n| n.replace("features.", "features.module.")).collect();
        let mut weights = with(&inner, &[]);
        assert_eq!(fit(&mut weights).unwrap(), None);
        assert_eq!(names(&weights), modified(""));
        // Two of them.
        let both = [modified("student."), modified("teacher.")].concat();
        let message = fit(&mut with(&both, &[])).unwrap_err().to_string();
        assert!(message.contains("--rename student.= --ignore teacher"), "{message}");
    }

    #[test]
    fn of_an_unknown_network_only_attributes_are_taken_off() {
        let fitted = |all: &[&str]| {
            let mut weights = named(all);
            let prefix = fit(&mut weights).unwrap();
            (prefix, names(&weights).join(" "))
        };
        assert_eq!(fitted(&["model.w"]), (Some("model.".into()), "w".into()));
        assert_eq!(
            fitted(&["net.model.a.w", "net.model.a.v"]),
            (Some("net.model.".into()), "a.w a.v".into())
        );
        assert_eq!(fitted(&["layer.w", "layer.v"]), (None, "layer.w layer.v".into()));
        assert_eq!(fitted(&["model.w", "loss.w"]), (None, "model.w loss.w".into()));
        assert_eq!(fitted(&[]), (None, String::new()));
    }
}
