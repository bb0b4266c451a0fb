//! Weights that are kept in parts, put together as PyTorch does it before each use: pruned ones and their masks,
//! `weight_norm` (old and as a parametrization) and `spectral_norm` in evaluation.
//!
//! Sources: `torch/nn/utils/{prune,weight_norm,spectral_norm,parametrizations}.py` of PyTorch 2.11. Lengths can be those
//! along any one dimension, or of the whole weight; singular vectors are those for the first, which is the default there.

use std::collections::HashMap;
use std::fmt;

use escape_files::text::shown;

use super::dtype::DType;
use super::error::CheckpointError;
use super::value::TensorData;

/// How a weight was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// `NAME_orig` and `NAME_mask`: pruned; the product.
    Pruned,
    /// `NAME_g` and `NAME_v`: lengths and directions.
    WeightNorm,
    /// `NAME_orig`, `NAME_u` and `NAME_v`: divided by its largest singular value, which the two vectors approximate.
    SpectralNorm,
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pruned => "pruned: multiplied with the mask",
            Self::WeightNorm => "weight_norm: computed from lengths and directions",
            Self::SpectralNorm => "spectral_norm: divided by the largest singular value",
        })
    }
}

/// A weight in parts, by their places in the list.
struct Plan {
    name: String,
    kind: Parts,
    /// What becomes the weight.
    main: usize,
    /// What is used up: the mask; the lengths; the left and the right singular vector.
    others: Vec<usize>,
}

type Weights = Vec<(String, TensorData)>;

/// Puts weights together; says which, and how they were kept.
///
/// # Errors
/// [`CheckpointError::Content`] for parametrizations of other kinds and parts that do not fit each other.
pub(crate) fn put_together(mut weights: Weights) -> Result<(Weights, Vec<(String, Parts)>), CheckpointError> {
    let plans = plans(&weights)?;
    let mut used = vec![false; weights.len()];
    let mut made = Vec::new();
    for Plan { name, kind, main, others } in plans {
        let taken: Vec<TensorData> = others
            .iter()
            .filter_map(|&i| {
                *used.get_mut(i)? = true;
                let (_, part) = weights.get_mut(i)?;
                Some(std::mem::replace(
                    part,
                    TensorData { dtype: DType::U8, shape: vec![0], bytes: Vec::new().into() },
                ))
            })
            .collect();
        let Some((old, weight)) = weights.get_mut(main) else { continue };
        let fits = weight.dtype.is_floating() && combine(kind, weight, &taken);
        if !fits {
            let at = format!("['{}']", shown(old));
            let expected = format!("parts that fit each other ({kind})");
            return Err(CheckpointError::content(at, expected, format!("others; {}", remedy(&name))));
        }
        *old = name.clone();
        made.push((name, kind));
    }
    let kept = weights.into_iter().zip(used).filter(|(_, used)| !used).map(|(weight, _)| weight);
    Ok((kept.collect(), made))
}

fn plans(weights: &Weights) -> Result<Vec<Plan>, CheckpointError> {
    let places: HashMap<&str, usize> =
        weights.iter().enumerate().map(|(i, (name, _))| (&name[..], i)).collect();
    let find = |name: String| places.get(name.as_str()).copied();
    let mut plans = Vec::new();
    for (i, (name, tensor)) in weights.iter().enumerate() {
        let plan = if let Some((module, part)) = parametrized(name) {
            let weight = part.split('.').next().unwrap_or_default();
            let parts = |part: &str| find(format!("{module}parametrizations.{weight}.{part}"));
            let whole = format!("{module}{weight}");
            match part.strip_prefix(weight).unwrap_or_default() {
                // `1` is the directions, whose shape is the weight's.
                ".original1" if parts("original2").is_none() => {
                    parts("original0").map(|g| (whole, Parts::WeightNorm, vec![g]))
                }
                ".original" => match (parts("0._u"), parts("0._v")) {
                    (Some(u), Some(v)) => Some((whole, Parts::SpectralNorm, vec![u, v])),
                    _ => None,
                },
                ".original0" if parts("original1").is_some() => continue,
                ".0._u" | ".0._v" if parts("original").is_some() => continue,
                _ => None,
            }
            .map(Some)
            .ok_or_else(|| {
                let whole = format!("{module}{weight}");
                CheckpointError::content(
                    format!("['{}']", shown(name)),
                    "a weight, or the parts of weight_norm or spectral_norm",
                    format!("part of another parametrization; {}", remedy(&whole)),
                )
            })?
        } else if let Some(base) = name.strip_suffix("_orig") {
            let parts = |end: &str| find(format!("{base}{end}"));
            match (parts("_mask"), parts("_u"), parts("_v")) {
                (Some(mask), ..) => Some((base.to_owned(), Parts::Pruned, vec![mask])),
                (_, Some(u), Some(v)) => Some((base.to_owned(), Parts::SpectralNorm, vec![u, v])),
                _ => None,
            }
        } else if let Some(base) = name.strip_suffix("_v") {
            let lengths =
                find(format!("{base}_g")).filter(|&g| weights.get(g).is_some_and(|g| lengths(&g.1, tensor)));
            lengths.map(|g| (base.to_owned(), Parts::WeightNorm, vec![g]))
        } else {
            None
        };
        if let Some((name, kind, others)) = plan
            && find(name.clone()).is_none()
        {
            plans.push(Plan { name, kind, main: i, others });
        }
    }
    Ok(plans)
}

/// The module, with its dot, and what follows of a name that `torch.nn.utils.parametrize` made.
fn parametrized(name: &str) -> Option<(&str, &str)> {
    const MARK: &str = "parametrizations.";
    let at = name.find(MARK).filter(|&at| at == 0 || name[..at].ends_with('.'))?;
    Some((&name[..at], &name[at + MARK.len()..]))
}

/// What to do in Python about parts that cannot be put together here.
fn remedy(name: &str) -> String {
    let (module, weight) = name.rsplit_once('.').unwrap_or(("", name));
    format!(
        "put them together in Python before saving: torch.nn.utils.parametrize.remove_parametrizations(\
         model.get_submodule('{}'), '{}')",
        shown(module),
        shown(weight)
    )
}

/// Whether these can be the lengths of a weight's parts along one dimension, or of all of it.
fn lengths(lengths: &TensorData, directions: &TensorData) -> bool {
    let along = |axis: usize| {
        let rest = lengths.shape.iter().enumerate().filter(|(other, _)| *other != axis);
        lengths.shape.get(axis) == directions.shape.get(axis) && rest.into_iter().all(|(_, &dim)| dim == 1)
    };
    let rank = directions.shape.len();
    lengths.shape.is_empty() || lengths.shape.len() == rank && (0..rank).any(along)
}

/// Makes the weight out of its main part; false if the parts do not fit.
fn combine(kind: Parts, weight: &mut TensorData, others: &[TensorData]) -> bool {
    let n = weight.len();
    let rows = weight.shape.first().copied().unwrap_or(1);
    let columns = n.checked_div(rows).unwrap_or(0);
    match (kind, others) {
        (Parts::Pruned, [mask]) if mask.shape == weight.shape => {
            for i in 0..n {
                let value = weight.element(i) * mask.element(i);
                weight.set_element(i, value);
            }
        }
        (Parts::WeightNorm, [g]) if lengths(g, weight) => {
            // Which length an element has: that of its place along the one dimension that has several.
            let axis = g.shape.iter().position(|&dim| dim != 1);
            let inner: usize = axis.map_or(1, |axis| weight.shape.iter().skip(axis + 1).product());
            let groups = g.len().max(1);
            let group = |i: usize| i / inner % groups;
            let mut squares = vec![0.0; groups];
            (0..n).for_each(|i| squares[group(i)] += weight.element(i).powi(2));
            for i in 0..n {
                let value = weight.element(i) * (g.element(group(i)) / squares[group(i)].sqrt());
                weight.set_element(i, value);
            }
        }
        (Parts::SpectralNorm, [u, v]) if u.len() == rows && v.len() == columns => {
            let row =
                |i: usize| (0..columns).map(|j| weight.element(i * columns + j) * v.element(j)).sum::<f64>();
            let sigma: f64 = (0..rows).map(|i| u.element(i) * row(i)).sum();
            for i in 0..n {
                let value = weight.element(i) / sigma;
                weight.set_element(i, value);
            }
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, shape: &[usize], values: &[f32]) -> (String, TensorData) {
        (name.to_owned(), TensorData::from_f32(shape, values))
    }

    #[test]
    fn parts_are_put_together_in_the_place_of_the_main_one() {
        let (weights, made) = put_together(vec![
            named("a.weight_orig", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            named("a.bias", &[1], &[7.0]),
            named("b.weight_g", &[2, 1], &[10.0, 1.0]),
            named("b.weight_v", &[2, 2], &[3.0, 4.0, 0.0, 2.0]),
            named("a.weight_mask", &[2, 2], &[1.0, 0.0, 0.0, 1.0]),
            named("c.weight_u", &[2], &[1.0, 0.0]),
            named("c.weight_orig", &[2, 2], &[2.0, 0.0, 0.0, 1.0]),
            named("c.weight_v", &[2], &[1.0, 0.0]),
            named("d.parametrizations.weight.original0", &[1, 1], &[2.0]),
            named("d.parametrizations.weight.original1", &[1, 2], &[0.0, 5.0]),
            named("e.weight_g", &[1, 3], &[5.0, 1.0, 2.0]),
            named("e.weight_v", &[2, 3], &[3.0, 0.0, 1.0, 4.0, 2.0, 0.0]),
            named("f.weight_g", &[1, 1, 1], &[10.0]),
            named("f.weight_v", &[2, 1, 2], &[1.0, 1.0, 1.0, 1.0]),
        ])
        .unwrap();
        let expected = [
            named("a.weight", &[2, 2], &[1.0, 0.0, 0.0, 4.0]),
            named("a.bias", &[1], &[7.0]),
            named("b.weight", &[2, 2], &[6.0, 8.0, 0.0, 1.0]),
            named("c.weight", &[2, 2], &[1.0, 0.0, 0.0, 0.5]),
            named("d.weight", &[1, 2], &[0.0, 2.0]),
            named("e.weight", &[2, 3], &[3.0, 0.0, 2.0, 4.0, 1.0, 0.0]),
            named("f.weight", &[2, 1, 2], &[5.0; 4]),
        ];
        assert_eq!(weights, expected);
        let kinds: Vec<_> = made.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let expected = [
            ("a.weight", Parts::Pruned),
            ("b.weight", Parts::WeightNorm),
            ("c.weight", Parts::SpectralNorm),
            ("d.weight", Parts::WeightNorm),
            ("e.weight", Parts::WeightNorm),
            ("f.weight", Parts::WeightNorm),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn other_parametrizations_and_odd_parts_are_named() {
        let error =
            put_together(vec![named("a.parametrizations.weight.original", &[1], &[1.0])]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("remove_parametrizations(model.get_submodule('a'), 'weight')"), "{text}");
        let error = put_together(vec![
            named("a.weight_orig", &[2], &[1.0, 2.0]),
            named("a.weight_mask", &[1], &[1.0]),
        ])
        .unwrap_err();
        assert!(error.to_string().contains("['a.weight_orig']"), "{error}");
        // A weight may be called so.
        let alone = vec![named("a_v", &[2], &[1.0, 2.0]), named("a_g", &[3], &[1.0; 3])];
        assert_eq!(put_together(alone.clone()).unwrap().0, alone);
    }
}
