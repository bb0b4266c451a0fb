//! A space of settings that a study searches: `$width` in an entry stands for every value of `space.width` in turn.
//!
//! An entry becomes one for each combination of the values that it names, wherever it names them: in its own name, in that of
//! the entry that it stands on, in the description of a network. So entries find each other by their names, as in any study.

use serde_yaml::{Mapping, Value};

/// The key of the space among a study's settings.
pub const SPACE: &str = "space";
/// Lists of entries that can name values of it.
const SECTIONS: [&str; 3] = ["ann", "convert", "finetune"];
/// Entries that a space may make, at most.
const MOST: usize = 10_000;

/// The settings with an entry for each combination, and without the space.
///
/// # Errors
/// In words: a space that is none, a name that is not in it or that nothing uses, too many combinations.
pub fn expanded(mut settings: Value) -> Result<Value, String> {
    let Some(space) = settings.as_mapping_mut().and_then(|all| all.remove(SPACE)) else {
        return Ok(settings);
    };
    let space = Space::of(&space)?;
    let mut used = vec![false; space.axes.len()];
    let mut count = 0;
    for section in SECTIONS {
        let Some(entries) = settings.get_mut(section) else { continue };
        let old: Vec<Value> = match std::mem::take(entries) {
            Value::Sequence(list) => list,
            one => vec![one],
        };
        let mut new = Vec::new();
        for (i, entry) in old.iter().enumerate() {
            let at = format!("{section}[{i}]");
            let named = space.named(entry, &at)?;
            named.iter().for_each(|&axis| used[axis] = true);
            space.check_name(entry, &named, &at)?;
            for values in space.combinations(&named) {
                count += 1;
                if count > MOST {
                    return Err(format!("{SPACE}: expected at most {MOST} networks, got more"));
                }
                new.push(space.substituted(entry, &values)?);
            }
        }
        *entries = Value::Sequence(new);
    }
    match used.iter().position(|used| !used) {
        None => Ok(settings),
        Some(axis) => {
            let name = &space.axes[axis].0;
            Err(format!("{SPACE}.{name}: nothing uses it; write ${name} where its values belong"))
        }
    }
}

/// Names, each with its values.
struct Space {
    axes: Vec<(String, Vec<Value>)>,
}

/// A piece of a text: as it is, or the name of an axis.
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// A text cut at its `$names`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let name = &rest[at + 1..];
        let end = name.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(name.len());
        let (before, after) = (&rest[..at], &name[end..]);
        match end {
            0 => found.push(Piece::Text(&rest[..=at])),
            _ => found.extend([Piece::Text(before), Piece::Name(&name[..end])]),
        }
        rest = after;
    }
    found.push(Piece::Text(rest));
    found
}

impl Space {
    fn of(value: &Value) -> Result<Self, String> {
        let expected = "expected names, each with a list of values, `channels: [8, 16]` say";
        let Value::Mapping(entries) = value else { return Err(format!("{SPACE}: {expected}")) };
        let axis = |(name, values): (&Value, &Value)| {
            let name = name.as_str().unwrap_or_default();
            let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let no_list = |got: &str| Err(format!("{SPACE}.{name}: expected a list of values, got {got}"));
            match values {
                _ if !fits => Err(format!("{SPACE}: {expected}; names are of small letters and _")),
                Value::Sequence(values) if values.is_empty() => no_list("an empty one"),
                Value::Sequence(values) => {
                    let twice = values.iter().enumerate().find(|(i, value)| values[..*i].contains(value));
                    match twice {
                        None => Ok((name.to_owned(), values.clone())),
                        Some((i, _)) => Err(format!("{SPACE}.{name}[{i}]: this value is there twice")),
                    }
                }
                Value::Mapping(_) => no_list("keys"),
                one => no_list(&in_words(name, one).unwrap_or_else(|_| "none".to_owned())),
            }
        };
        Ok(Self { axes: entries.iter().map(axis).collect::<Result<_, _>>()? })
    }

    fn axis(&self, name: &str) -> Option<usize> {
        self.axes.iter().position(|(own, _)| own == name)
    }

    /// The axes that a value names, in their own order.
    fn named(&self, value: &Value, at: &str) -> Result<Vec<usize>, String> {
        let mut found = Vec::new();
        each_text(value, at, &mut |text, at| {
            for piece in pieces(text) {
                let Piece::Name(name) = piece else { continue };
                let names = || self.axes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                let unknown = || format!("{at}: ${name}: expected a name in {SPACE} ({})", names());
                found.push(self.axis(name).ok_or_else(unknown)?);
            }
            Ok(())
        })?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Whether the name of an entry tells the combinations of these axes apart.
    fn check_name(&self, entry: &Value, axes: &[usize], at: &str) -> Result<(), String> {
        let Some(name) = entry.get("name") else { return Ok(()) };
        let told = self.named(name, at)?;
        let missing = axes.iter().find(|&axis| !told.contains(axis) && self.axes[*axis].1.len() > 1);
        missing.map_or(Ok(()), |&axis| {
            let missing = &self.axes[axis].0;
            Err(format!("{at}.name: the entry is one for each value of {SPACE}.{missing}, and its name the same for all; write ${missing} into it"))
        })
    }

    /// All combinations of the values of some axes, the last one's changing first.
    fn combinations(&self, axes: &[usize]) -> Vec<Vec<(usize, &Value)>> {
        let mut all: Vec<Vec<(usize, &Value)>> = vec![Vec::new()];
        for &axis in axes {
            let values = &self.axes[axis].1;
            all = all
                .into_iter()
                .flat_map(|before| {
                    values.iter().map(move |value| {
                        let mut more = before.clone();
                        more.push((axis, value));
                        more
                    })
                })
                .take(MOST + 1)
                .collect();
        }
        all
    }

    fn substituted(&self, value: &Value, values: &[(usize, &Value)]) -> Result<Value, String> {
        let of = |name: &str| {
            let axis = self.axis(name);
            values.iter().find(|(own, _)| Some(*own) == axis).map(|(_, value)| *value)
        };
        Ok(match value {
            Value::String(text) => match &pieces(text)[..] {
                [Piece::Text(""), Piece::Name(name), Piece::Text("")] => {
                    of(name).cloned().unwrap_or_else(|| value.clone())
                }
                pieces => {
                    let text = pieces.iter().map(|piece| match piece {
                        Piece::Text(text) => Ok((*text).to_owned()),
                        Piece::Name(name) => {
                            of(name).map_or(Ok(String::new()), |value| in_words(name, value))
                        }
                    });
                    Value::String(text.collect::<Result<String, String>>()?)
                }
            },
            Value::Sequence(list) => {
                Value::Sequence(list.iter().map(|v| self.substituted(v, values)).collect::<Result<_, _>>()?)
            }
            Value::Mapping(entries) => {
                let entry = |(key, v): (&Value, &Value)| Ok((key.clone(), self.substituted(v, values)?));
                Value::Mapping(entries.iter().map(entry).collect::<Result<Mapping, String>>()?)
            }
            other => other.clone(),
        })
    }
}

/// A value as part of a name: `[8, 2]` is 8x2.
fn in_words(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Sequence(list) => {
            let parts: Result<Vec<String>, String> = list.iter().map(|v| in_words(name, v)).collect();
            Ok(parts?.join("x"))
        }
        _ => Err(format!("{SPACE}.{name}: expected numbers, words or lists of such, where a text names it")),
    }
}

/// Shows every text within a value.
fn each_text(
    value: &Value,
    at: &str,
    look: &mut impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::String(text) => look(text, at),
        Value::Sequence(list) => {
            list.iter().enumerate().try_for_each(|(i, v)| each_text(v, &format!("{at}[{i}]"), look))
        }
        Value::Mapping(entries) => entries.iter().try_for_each(|(key, v)| {
            each_text(v, &format!("{at}.{}", key.as_str().unwrap_or_default()), look)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Value, String> {
        expanded(serde_yaml::from_str(text).unwrap())
    }

    const SMALL: &str = "
space: {width: [8, 16], stride: [[8, 2], [8, 4]], bits: [4], penalty: [0, 0.5]}
name: '$width is left alone here'
ann:
  - {name: c$width-$stride, network: {layers: [{out: $width, stride: $stride}]}, train: {epochs: 2}}
  - {name: other, checkpoint: a$.pth}
convert:
  - {name: c$width-$stride-w$bits, ann: c$width-$stride, bits: $bits, timesteps: [1, 2]}
finetune:
  - {name: c$width-$stride-p$penalty, from: c$width-$stride-w4, operations_penalty: $penalty}
";

    #[test]
    fn entries_become_one_for_each_combination() {
        let all = of(SMALL).unwrap();
        let names = |section: &str| -> Vec<String> {
            let list = all[section].as_sequence().unwrap();
            list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("ann"), ["c8-8x2", "c8-8x4", "c16-8x2", "c16-8x4", "other"]);
        assert_eq!(names("convert"), ["c8-8x2-w4", "c8-8x4-w4", "c16-8x2-w4", "c16-8x4-w4"]);
        assert_eq!(names("finetune").len(), 8);
        assert_eq!(names("finetune")[..2], ["c8-8x2-p0", "c8-8x2-p0.5"]);
        // Numbers stay numbers, lists stay lists.
        let layer = &all["ann"][1]["network"]["layers"][0];
        assert_eq!(layer, &serde_yaml::from_str::<Value>("{out: 8, stride: [8, 4]}").unwrap());
        assert_eq!(all["convert"][3]["ann"], Value::from("c16-8x4"));
        assert_eq!(all["finetune"][7]["operations_penalty"], Value::from(0.5));
        assert_eq!(all["name"], Value::from("$width is left alone here"));
        assert_eq!(all["ann"][4]["checkpoint"], Value::from("a$.pth"));
        assert!(all.get(SPACE).is_none());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let why = |old: &str, new: &str| {
            assert!(SMALL.contains(old), "{old}");
            of(&SMALL.replacen(old, new, 1)).unwrap_err()
        };
        assert!(why("out: $width", "out: $wide").contains("ann[0].network.layers[0].out: $wide: expected"));
        assert!(why("bits: [4]", "bits: [4], depth: [1, 2]").contains("space.depth: nothing uses it"));
        assert!(
            why("bits: [4]", "bits: []").contains("space.bits: expected a list of values, got an empty one")
        );
        assert!(why("bits: [4]", "bits: 4").contains("space.bits: expected a list of values, got 4"));
        assert!(why("bits: [4]", "bits: ").contains("space.bits: expected a list of values, got none"));
        assert!(
            why("width: [8, 16]", "width: [8, 16, 8]").contains("space.width[2]: this value is there twice")
        );
        let unnamed = why("name: c$width-$stride-p$penalty", "name: c$width-$stride");
        assert!(unnamed.contains("finetune[0].name: ") && unnamed.contains("write $penalty"), "{unnamed}");
        assert!(why("bits: [4]", "Bits: [4]").contains("small letters"));
        assert!(why("bits: [4]", "bits: [{a: 1}]").contains("space.bits: expected numbers"));
        let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let many = format!("width: [{0}], stride: [{0}]", many.join(", "));
        assert!(why("width: [8, 16], stride: [[8, 2], [8, 4]]", &many).contains("at most 10000"));
        assert_eq!(of("ann: {name: a}").unwrap()["ann"]["name"], Value::from("a"), "without a space");
    }
}
