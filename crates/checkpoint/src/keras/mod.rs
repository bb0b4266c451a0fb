//! Models of Keras: `.h5` files of Keras 2 and 3, and `.keras` archives. The architecture is their `model_config`, the weights
//! come out in PyTorch's layout under the layers' names.
//!
//! An `.h5` file keeps the configuration as a text at its root and each layer's variables under `model_weights/LAYER`, in
//! groups whose names differ from version to version; the last part of a variable's name tells what it is (`kernel`, with
//! `:0` behind it in Keras 2). A `.keras` file is a zip archive of `config.json` and `model.weights.h5`, which numbers the
//! variables: `layers/CLASS_N/vars/0`, where N counts the layers of a class. Sources:
//! `keras/src/legacy/saving/legacy_h5_format.py` and `keras/src/saving/saving_lib.py` of Keras 3.15.
//!
//! Keras keeps channels last: kernels are (rows, columns, input channels, output channels), dense ones (inputs, outputs), and
//! a flatten puts the channels of a pixel beside each other. All that is turned here, so that nobody else has to know of it.

mod config;
mod layers;
mod variables;

use std::io::{Cursor, Read, Seek};

use escape_files::archive::Archive;
use escape_files::hdf5::{self, Raw, superblock};

use self::config::Model;
use self::layers::Built;
use self::variables::{Place, Variables};
use crate::budget::{Budget, room};
use crate::description::{self, NETWORK_KEY};
use crate::error::Fault;
use crate::{Contents, Format, Note, Value};

/// Entries of a `.keras` archive.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

/// What to do with weights that come without their network.
const WHOLE: &str = "save the whole model in Python, model.save('model.h5') or model.save('model.keras'): it holds the \
                     architecture beside the weights";

/// Whether the names of a zip archive are those of a `.keras` file.
pub(crate) fn is_archive<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    // Its metadata have the version.
    names.any(|name| name == WEIGHTS || name == "metadata.json")
}

/// Reads a `.keras` archive.
pub(crate) fn load_archive(
    mut zip: Archive<impl Read + Seek>,
    budget: &mut Budget,
) -> Result<Contents, Fault> {
    let mut entry = |name: &str, budget: &mut Budget| -> Result<Vec<u8>, Fault> {
        let Some(size) = zip.size(name) else {
            return Err(Fault::Other {
                looks_like: format!("a Keras archive without {name}"),
                hint: WHOLE.to_owned(),
            });
        };
        budget.charge(size, || name.to_owned())?;
        let mut bytes = room(size, name)?;
        let read =
            zip.reader(name).map_err(Fault::from).and_then(|mut entry| Ok(entry.read_to_end(&mut bytes)?));
        read.map_err(|fault| fault.within(name))?;
        Ok(bytes)
    };
    let text = entry(CONFIG, budget)?;
    let text = String::from_utf8(text).map_err(|_| Fault::damaged(format!("{CONFIG} is no UTF-8")))?;
    let file = entry(WEIGHTS, budget)?;
    let length = file.len() as u64;
    let (mut raw, root) = superblock(Cursor::new(file), length).map_err(of_hdf5(WEIGHTS))?;
    assemble(Format::KerasArchive, &text, &mut raw, |raw| Place::numbered(raw, root), budget)
}

/// Reads an HDF5 file, if it is a Keras model; `None` for another one.
pub(crate) fn load_hdf5(
    input: impl Read + Seek,
    length: u64,
    budget: &mut Budget,
) -> Result<Option<Contents>, Fault> {
    let (mut raw, root) = superblock(input, length).map_err(of_hdf5("the file"))?;
    let object = hdf5::Object::read(&mut raw, root, None).map_err(of_hdf5("the file"))?;
    let Some(text) = object.text(&mut raw, "model_config", budget).map_err(of_hdf5("model_config"))? else {
        // A group that cannot be read is none of Keras's.
        let mut has = |name: &str| variables::member(&mut raw, root, name).is_ok_and(|found| found.is_some());
        let of_keras =
            object.attribute("keras_version").is_some() || object.attribute("layer_names").is_some();
        return match of_keras || has("_layer_checkpoint_dependencies") || has("layers") && has("vars") {
            true => Err(Fault::Other {
                looks_like: "weights of a Keras model without their network".to_owned(),
                hint: WHOLE.to_owned(),
            }),
            false => Ok(None),
        };
    };
    assemble(Format::KerasHdf5, &text, &mut raw, |raw| Place::named(raw, root), budget).map(Some)
}

/// Network and weights, as a file of PyTorch would hold them.
fn assemble<R: Read + Seek>(
    format: Format,
    text: &str,
    raw: &mut Raw<R>,
    place: impl FnOnce(&mut Raw<R>) -> Result<Place, Fault>,
    budget: &mut Budget,
) -> Result<Contents, Fault> {
    let model = Model::parse(text, budget)?;
    let Built { network, sources, notes } = layers::build(&model)?;
    let place = place(raw)?;
    let mut variables = Variables { raw, place };
    let mut weights = Vec::new();
    for source in &sources {
        for (name, tensor) in source.tensors(&mut variables, budget)? {
            weights.push((Value::Str(name), tensor.into()));
        }
    }
    let description = description::to_yaml(&network);
    budget.take("the network's description", description.len(), 2)?;
    let value = Value::Dict(vec![
        ("state_dict".into(), Value::OrderedDict(weights)),
        (NETWORK_KEY.into(), Value::Str(description)),
    ]);
    Ok(Contents { format, value, foreign: Vec::new(), notes: notes.into_iter().map(Note::Keras).collect() })
}

/// A fault of the container, with what was read of it.
fn of_hdf5(what: &str) -> impl Fn(hdf5::Fault) -> Fault {
    move |fault| match fault {
        hdf5::Fault::Memory(error) => error.into(),
        hdf5::Fault::Io(error) => match error.kind() {
            std::io::ErrorKind::Unsupported => Fault::unsupported(format!("{what}: {error}")),
            std::io::ErrorKind::UnexpectedEof => Fault::damaged(format!("{what} ends too early")),
            _ => Fault::from(error).within(what),
        },
    }
}
