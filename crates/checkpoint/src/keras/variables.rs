//! The variables of a model's layers, where the versions of Keras put them.

use std::io::{Read, Seek};

use escape_files::hdf5::{self, Dataset, Number, Object, Raw};
use escape_files::text::{dims as spoken, shown};

use super::config::{Item, called};
use super::of_hdf5;
use crate::budget::{Budget, room};
use crate::error::Fault;

/// Groups within each other, at most: three in files of any version.
const DEEPEST: usize = 8;
/// Members of a layer's groups, at most: a dozen in files of any version.
const MOST: usize = 256;

/// Where variables are.
pub(super) enum Place {
    /// Under the layer's name, by their own; this is the group of all layers.
    Named(u64),
    /// Under the layer's class, by number; this is the group of all layers.
    Numbered(u64),
}

/// The variables of a file.
pub(super) struct Variables<'a, R> {
    pub raw: &'a mut Raw<R>,
    pub place: Place,
}

/// The address of a group's member.
pub(super) fn member<R: Read + Seek>(raw: &mut Raw<R>, group: u64, name: &str) -> Result<Option<u64>, Fault> {
    let mut found = None;
    hdf5::members(raw, group, &mut |other, address| {
        if other == name.as_bytes() {
            found = Some(address);
        }
        Ok(())
    })
    .map_err(of_hdf5("a group of it"))?;
    Ok(found)
}

impl Place {
    /// Of an `.h5` file.
    pub fn named<R: Read + Seek>(raw: &mut Raw<R>, root: u64) -> Result<Self, Fault> {
        let group = member(raw, root, "model_weights")?;
        group.map(Self::Named).ok_or_else(|| Fault::damaged("expected a group model_weights, got none"))
    }

    /// Of the weights in a `.keras` file.
    pub fn numbered<R: Read + Seek>(raw: &mut Raw<R>, root: u64) -> Result<Self, Fault> {
        for name in ["layers", "_layer_checkpoint_dependencies"] {
            if let Some(group) = member(raw, root, name)? {
                return Ok(Self::Numbered(group));
            }
        }
        Err(Fault::damaged("expected a group layers among the weights, got none"))
    }
}

impl<R: Read + Seek> Variables<'_, R> {
    /// A variable of a layer by its name, and by its number among those that the layer has, of a shape that it must have: the
    /// bytes of its values in float32, each where `place` puts it, from its place in the file.
    pub fn read(
        &mut self,
        item: &Item,
        (name, number): (&str, usize),
        shape: &[usize],
        budget: &mut Budget,
        place: &dyn Fn(usize) -> usize,
    ) -> Result<Vec<u8>, Fault> {
        let what = format!("{}: its {name}", called(item));
        let missing = || {
            Fault::damaged(format!("{what} is missing (links to other places and files are not followed)"))
        };
        let address = match self.place {
            Place::Named(group) => self.named(group, &item.name, name, budget)?,
            Place::Numbered(group) => {
                let class = match item.ordinal {
                    0 => snake(&item.class),
                    n => format!("{}_{n}", snake(&item.class)),
                };
                self.path(group, [&class, "vars", &number.to_string()].into_iter())?
            }
        };
        let object = Object::read(self.raw, address.ok_or_else(missing)?, None).map_err(of_hdf5(&what))?;
        let element = match object.number() {
            Number::Plain(element) => element,
            Number::Other(other) => {
                return Err(Fault::unsupported(format!("{what} holds {other}; save the model in float32")));
            }
            _ => return Err(Fault::unsupported(format!("{what} holds no numbers"))),
        };
        if !element.0.is_float() {
            return Err(Fault::unsupported(format!(
                "{what} holds whole numbers, as a quantised layer does; save the model before it was quantised"
            )));
        }
        let dataset = Dataset::new(object, element.0.bytes()).map_err(of_hdf5(&what))?;
        if !dataset.dims.iter().copied().eq(shape.iter().map(|&n| n as u64)) {
            let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
            return Err(Fault::damaged(format!(
                "{what}: the configuration asks for {}, the file has {}",
                spoken(&shape),
                spoken(&dataset.dims)
            )));
        }
        let count: usize = shape.iter().product();
        const EACH: usize = size_of::<f32>();
        budget.take(&what, count, EACH)?;
        let mut bytes = room(count as u64 * EACH as u64, &what)?;
        bytes.resize(count * EACH, 0);
        dataset
            .read(self.raw, element, budget, &mut |start, run| {
                for (at, &value) in (start..).zip(run) {
                    bytes[place(at) * EACH..][..EACH].copy_from_slice(&(value as f32).to_le_bytes());
                }
            })
            .map_err(of_hdf5(&what))?;
        Ok(bytes)
    }

    /// Follows a path of groups.
    fn path<'n>(&mut self, group: u64, names: impl Iterator<Item = &'n str>) -> Result<Option<u64>, Fault> {
        let mut at = group;
        for name in names {
            match member(self.raw, at, name)? {
                Some(address) => at = address,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The data set of a name within the groups of a layer, in which versions differ.
    fn named(
        &mut self,
        group: u64,
        layer: &str,
        name: &str,
        budget: &mut Budget,
    ) -> Result<Option<u64>, Fault> {
        let Some(layer_group) = self.path(group, layer.split('/'))? else { return Ok(None) };
        // The group says where its variables are; a layer whose name begins with this one's may lie in it.
        let object = Object::read(self.raw, layer_group, None).map_err(of_hdf5("a group of it"))?;
        let names =
            object.texts(self.raw, "weight_names", MOST, budget).map_err(of_hdf5("its weight_names"))?;
        if let Some(names) = names {
            let last =
                |path: &str| path.rsplit('/').next().and_then(|last| last.split(':').next()) == Some(name);
            let mut paths = names.iter().filter(|path| last(path));
            return match (paths.next(), paths.next()) {
                (Some(path), None) => self.path(layer_group, path.split('/')),
                (None, _) => Ok(None),
                (Some(_), Some(_)) => {
                    Err(Fault::damaged(format!("layer '{}' has two variables '{name}'", shown(layer))))
                }
            };
        }
        let mut open = vec![(layer_group, 0)];
        let (mut found, mut seen) = (None, 0);
        while let Some((group, depth)) = open.pop() {
            // Addresses of its members, and whether each has the name.
            let mut all: Vec<(u64, bool)> = Vec::new();
            hdf5::members(self.raw, group, &mut |member, address| {
                seen += 1;
                if seen > MOST {
                    return Err(hdf5::damaged(format!("more than {MOST} variables of one layer")));
                }
                all.push((address, member.split(|&c| c == b':').next() == Some(name.as_bytes())));
                Ok(())
            })
            .map_err(of_hdf5("a group of it"))?;
            for (address, named) in all {
                if Object::read(self.raw, address, None).map_err(of_hdf5("a group of it"))?.is_group() {
                    if depth < DEEPEST {
                        open.push((address, depth + 1));
                    }
                } else if named && found.replace(address).is_some() {
                    return Err(Fault::damaged(format!(
                        "layer '{}' has two variables '{name}'",
                        shown(layer)
                    )));
                }
            }
        }
        Ok(found)
    }
}

/// A class's name as Keras makes names of layers of it: `MaxPooling2D` is `max_pooling2d`.
fn snake(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut out = String::new();
    for (i, &c) in letters.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| letters[i]);
        let word = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase() || letters.get(i + 1).is_some_and(char::is_ascii_lowercase)
            });
        if word && before != Some('_') {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes() {
        for (class, name) in [
            ("Conv2D", "conv2d"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("BatchNormalization", "batch_normalization"),
            ("Dense", "dense"),
            ("ReLU", "re_lu"),
            ("MaxPooling2D", "max_pooling2d"),
        ] {
            assert_eq!(snake(class), name);
        }
    }
}
