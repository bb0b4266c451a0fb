//! Labels, in whatever form they come: numbers, class names, one column or row a class. N recordings.

use std::path::Path;

use crate::arrays::{Array, Kind, Source};
use crate::budget::take;
use crate::classes::Classes;
use crate::error::DataError;
use crate::options::{LabelForm, Note, ReadOptions};
use crate::recordings::Split;
use escape_files::budget::Budget;
use escape_files::text::shown;
use escape_network::arch::CLASSES;

/// The labels of a split as they were found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labels {
    pub(crate) values: Vec<f64>,
    pub(crate) form: LabelForm,
}

fn shapes(classes: usize) -> String {
    format!(
        "N x 1 or 1 x N (one label a recording), or a column or row for each of the {classes} classes (one-hot)"
    )
}

/// Read the labels of `recordings` recordings.
pub(crate) fn read(
    source: &mut dyn Source,
    path: &Path,
    name: &str,
    (recordings, classes): (Option<usize>, &Classes),
    budget: &mut Budget,
) -> Result<Labels, DataError> {
    let array = source.array(name)?;
    match &array.kind {
        Kind::Numbers => numbers(source, path, name, &array, (recordings, classes), budget),
        Kind::Text(_) => {
            let texts = source.texts(name, budget)?;
            from_texts(path, name, texts, (recordings, classes))
        }
        Kind::Other(got) => Err(DataError::WrongType {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: "integers, floating-point numbers or class names",
            got: got.clone(),
        }),
    }
}

fn numbers(
    source: &mut dyn Source,
    path: &Path,
    name: &str,
    array: &Array,
    (recordings, classes): (Option<usize>, &Classes),
    budget: &mut Budget,
) -> Result<Labels, DataError> {
    let wrong = || DataError::WrongShape {
        path: path.to_owned(),
        name: name.to_owned(),
        expected: shapes(classes.count()),
        got: array.dims.clone(),
    };
    let classes = classes.count();
    let each = classes as u64;
    // Which dimension counts classes.
    let one_hot = match *array.dims {
        [_] | [_, 1] | [1, _] => None,
        [n, k] if n == each && k == each => {
            return Err(DataError::unsupported(
                path,
                format!(
                    "{name} is {classes} x {classes}, which could be one-hot by rows or by columns; give one number a recording"
                ),
            ));
        }
        [n, k] if k == each && recordings.is_none_or(|wanted| wanted as u64 == n) => Some(1),
        [k, n] if k == each && recordings.is_none_or(|wanted| wanted as u64 == n) => Some(0),
        [0, _] | [_, 0] => None,
        _ => return Err(wrong()),
    };
    let count = array.count().ok_or_else(wrong)?;
    take(budget, path, name, count, size_of::<f64>())?;
    let mut values = vec![0.0; count];
    source.numbers(name, budget, &mut |start, run| values[start..start + run.len()].copy_from_slice(run))?;
    let Some(along) = one_hot else {
        return Ok(Labels { values, form: LabelForm::Numbers });
    };
    let n = count / classes;
    let at = |i: usize, class: usize| match (along == 1) != array.column_major {
        true => values[i * classes + class],
        false => values[class * n + i],
    };
    let mut found = Vec::new();
    take(budget, path, name, n, size_of::<f64>())?;
    found.reserve_exact(n);
    for i in 0..n {
        let row: Vec<f64> = (0..classes).map(|class| at(i, class)).collect();
        let ones = row.iter().filter(|&&v| v == 1.0).count();
        let class = row.iter().position(|&v| v == 1.0);
        match class {
            Some(class) if ones == 1 && row.iter().all(|&v| v == 0.0 || v == 1.0) => found.push(class as f64),
            _ => {
                return Err(DataError::unsupported(
                    path,
                    format!(
                        "{name} looks one-hot, but label {i} is {}; expected a single 1 among zeros",
                        row.iter().take(12).map(f64::to_string).collect::<Vec<_>>().join(", ")
                    ),
                ));
            }
        }
    }
    Ok(Labels { values: found, form: LabelForm::OneHot })
}

/// Numbers written as text, or names of classes.
fn from_texts(
    path: &Path,
    name: &str,
    mut texts: Vec<String>,
    (recordings, classes): (Option<usize>, &Classes),
) -> Result<Labels, DataError> {
    if let [only] = &texts[..]
        && recordings.is_some_and(|n| n != 1 && n == only.chars().count())
    {
        // MATLAB's '123123': a row of characters.
        texts = only.chars().map(String::from).collect();
    }
    // Names may be numbers, which then are names.
    if let Classes::Named(_) = classes
        && let Some(values) = texts.iter().map(|text| classes.exactly(text)).collect::<Option<Vec<_>>>()
    {
        return Ok(Labels {
            values: values.into_iter().map(|class| class as f64).collect(),
            form: LabelForm::Names,
        });
    }
    let numbers: Option<Vec<f64>> = texts.iter().map(|text| text.trim().parse().ok()).collect();
    if let Some(values) = numbers {
        return Ok(Labels { values, form: LabelForm::Numbers });
    }
    let values = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            classes.named(text).map(|class| class as f64).ok_or_else(|| {
                DataError::unsupported(
                    path,
                    format!(
                        "label {index} of {name} is the text {:?}, expected {}, or a number; say what the classes are called, in the \
                         order of the network's outputs, with --classes NAME1,NAME2,...",
                        shown(text.trim()),
                        some(classes)
                    ),
                )
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Labels { values, form: LabelForm::Names })
}

/// The first few names of classes, for a message.
fn some(classes: &Classes) -> String {
    const SHOWN: usize = 12;
    match (classes, classes.names()) {
        (Classes::Count(count), names) if *count != CLASSES => format!("a number of {} classes", names.len()),
        (_, names) => {
            let some: Vec<String> = names.iter().take(SHOWN).map(|name| shown(name)).collect();
            let more = if names.len() > SHOWN { ", ..." } else { "" };
            format!("{}{more}", some.join(", "))
        }
    }
}

/// At what number labels of K classes start: any 0 says 0, any K says 1, and what the labels of all splits leave open is decided
/// by `usual`.
pub(crate) fn first_label(
    path: &Path,
    labels: &[Option<Labels>; 2],
    options: &ReadOptions,
    usual: u8,
    notes: &mut Vec<Note>,
) -> Result<u8, DataError> {
    if let Some(first) = options.first_label {
        return Ok(first);
    }
    let find = |wanted: f64| {
        Split::ALL.into_iter().find_map(|split| {
            let labels = labels[split as usize].as_ref().filter(|found| found.form == LabelForm::Numbers)?;
            let index = labels.values.iter().position(|&label| label == wanted)?;
            Some((split, index))
        })
    };
    let first = match (find(0.0), find(options.classes.count() as f64)) {
        (Some(zero), Some(last)) => {
            return Err(DataError::MixedLabels {
                path: path.to_owned(),
                zero,
                last,
                classes: options.classes.count(),
            });
        }
        (Some(_), None) => 0,
        (None, Some(_)) => 1,
        (None, None) => {
            if find(1.0).or(find(2.0)).is_some() {
                let one = options.classes.names().into_iter().nth(usize::from(1 - usual)).unwrap_or_default();
                notes.push(Note::OpenLabels { first: usual, one });
            }
            return Ok(usual);
        }
    };
    if first != usual {
        notes.push(Note::UnusualLabels { first, classes: options.classes.count() });
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_in_any_spelling() {
        for (text, class) in [
            ("dorsiflexion", Some(0)),
            ("Dorsiflexion ", Some(0)),
            ("Plantar-Flexion", Some(1)),
            ("plantar flexion", Some(1)),
            ("PRICK", Some(2)),
            ("pricking", Some(2)),
            ("dor", None),
            ("pricking of the heel", None),
            ("", None),
        ] {
            assert_eq!(Classes::Open.named(text), class, "{text}");
        }
    }

    #[test]
    fn texts_are_numbers_or_names() {
        let of = |texts: &[&str], n| {
            let texts = texts.iter().map(|t| t.to_string()).collect();
            from_texts(Path::new("f"), "y", texts, (n, &Classes::Open))
        };
        assert_eq!(of(&["1", " 2 ", "3"], Some(3)).unwrap().values, [1.0, 2.0, 3.0]);
        assert_eq!(of(&["1231"], Some(4)).unwrap().values, [1.0, 2.0, 3.0, 1.0]);
        let named = of(&["prick", "dorsiflexion"], Some(2)).unwrap();
        assert_eq!((named.values, named.form), (vec![2.0, 0.0], LabelForm::Names));
        let error = of(&["pricking", "walking"], None).unwrap_err().to_string();
        assert!(
            error.contains("label 1 of y is the text \"walking\"") && error.contains("plantarflexion"),
            "{error}"
        );
        let named: Classes = "sit,walking".parse().unwrap();
        let texts = vec!["walking".to_owned(), "sit".to_owned()];
        assert_eq!(from_texts(Path::new("f"), "y", texts, (None, &named)).unwrap().values, [1.0, 0.0]);
        let turned: Classes = "2,1".parse().unwrap();
        let found = from_texts(Path::new("f"), "y", vec!["1".into(), "2".into()], (None, &turned)).unwrap();
        assert_eq!((found.values, found.form), (vec![1.0, 0.0], LabelForm::Names));
    }
}
