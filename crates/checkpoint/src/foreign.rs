//! Names that a pickle asks for and that mean nothing here: classes and functions of other programs.
//!
//! Python would import them, and run those that are called. Here they are text: listed, and shown with what little of
//! their content is plain.

use std::collections::HashMap;

use escape_files::text::shown;

use super::budget::Budget;
use super::error::Fault;
use super::pickle::{Global, Graph, Item, Name, Object, Opaque};
use super::value::Value;

/// A class or function that a file's pickle names. It was neither imported nor called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Module and name, joined by a dot: `argparse.Namespace`.
    pub name: String,
    /// Whether the pickle calls it, and does not only mention it.
    pub called: bool,
}

impl Foreign {
    /// Whether Python would, on loading the file, call something that starts programs, runs text as code or reaches
    /// files and networks. The names that are known to do so are looked for; that none is found is no promise.
    pub fn would_run(&self) -> bool {
        const MODULES: [&str; 19] = [
            "os",
            "posix",
            "nt",
            "subprocess",
            "sys",
            "shutil",
            "socket",
            "importlib",
            "runpy",
            "pty",
            "commands",
            "ctypes",
            "webbrowser",
            "urllib",
            "requests",
            "httplib",
            "pdb",
            "timeit",
            "marshal",
        ];
        const FUNCTIONS: [&str; 12] = [
            "eval",
            "exec",
            "execfile",
            "compile",
            "open",
            "__import__",
            "system",
            "popen",
            "Popen",
            "FunctionType",
            "CodeType",
            "runcode",
        ];
        // A dotted name reaches into other modules: `torch` and `os.system`.
        let mut parts = self.name.split('.');
        let last = parts.next_back().unwrap_or_default();
        let loads = matches!(last, "load" | "loads" | "load_state_dict_from_url" | "hub");
        self.called && (FUNCTIONS.contains(&last) || loads || parts.any(|part| MODULES.contains(&part)))
    }
}

/// The names of a pickle, each once, in the order in which they come.
pub(crate) fn listed(names: &[Name<'_>], budget: &mut Budget) -> Result<Vec<Foreign>, Fault> {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut list: Vec<Foreign> = Vec::new();
    for Name { module, name, called } in names {
        if let Some(known) = places.get(&(*module, *name)).and_then(|&at| list.get_mut(at)) {
            known.called |= called;
            continue;
        }
        // Five words, and a table is at least 7/16 full after doubling; and the text.
        budget.charge(100 + (module.len() + name.len() + 1) as u64, || "the names of a pickle".to_owned())?;
        places.insert((module, name), list.len());
        let module = if *module == "__builtin__" { "builtins" } else { module };
        budget.push(&mut list, Foreign { name: format!("{module}.{name}"), called: *called }, "names")?;
    }
    Ok(list)
}

/// Module and name, as they can be shown. What only makes an object of a class is spoken of as that class.
pub(crate) fn spoken(graph: &Graph<'_>, name: u32, arguments: Option<Item>) -> String {
    let Some(Name { module, name, .. }) = graph.names.get(name as usize) else { return "unknown".to_owned() };
    let makes_objects = matches!(
        (*module, *name),
        ("copyreg" | "copy_reg", "_reconstructor" | "__newobj__" | "__newobj_ex__")
            | ("torch._utils", "_rebuild_wrapper_subclass")
    );
    if makes_objects
        && let Some(Object::Tuple(arguments)) = arguments.and_then(|items| graph.object(items))
        && let Some(Object::Global(Global::Foreign(class))) = arguments.first().and_then(|&c| graph.object(c))
    {
        return spoken(graph, *class, None);
    }
    let module = if *module == "__builtin__" { "builtins" } else { module };
    shown(&format!("{}.{}", short(module), short(name)))
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// What the call of a name would give: in words, whether that is a tensor, and what helps in Python.
pub(crate) fn described(graph: &Graph<'_>, name: u32, arguments: Item) -> (String, bool, &'static str) {
    let (module, function) = graph.names.get(name as usize).map_or(("", ""), |name| (name.module, name.name));
    let spoken = spoken(graph, name, Some(arguments));
    let distributed = module.starts_with("torch.distributed") && function.contains("Tensor");
    match function {
        "_rebuild_nested_tensor" | "_rebuild_njt" => (
            "a nested tensor, whose rows differ in length".to_owned(),
            true,
            "save it in Python as an ordinary one: torch.nested.to_padded_tensor(tensor, 0.0)",
        ),
        "_rebuild_wrapper_subclass" => (
            format!("a tensor of the class {spoken}"),
            true,
            "save it in Python as an ordinary one: tensor.full_tensor() if it is distributed, tensor.dequantize() if it \
             is quantised",
        ),
        _ if distributed => (
            format!("a tensor distributed over processes ({spoken})"),
            true,
            "save it in Python as an ordinary one: tensor.full_tensor()",
        ),
        _ => {
            let class = spoken.rsplit('.').next().is_some_and(|last| last.starts_with(char::is_uppercase));
            let what = if class { "an object of" } else { "the result of calling" };
            (format!("{what} {spoken}"), false, "")
        }
    }
}

/// The plain ones among what an object would be made from: numbers and short texts, at most a few.
pub(crate) fn fields(graph: &Graph<'_>, opaque: &Opaque) -> Vec<(String, Value)> {
    const FIELDS: usize = 30;
    let plain = |item: Item| match item {
        Item::None => Some(Value::None),
        Item::Bool(v) => Some(Value::Bool(v)),
        Item::Int(v) => Some(Value::Int(v)),
        Item::Float(v) => Some(Value::Float(v)),
        Item::Object(_) => match graph.object(item) {
            Some(Object::Str(text)) => Some(Value::Str(short(text))),
            _ => None,
        },
    };
    let mut fields = Vec::new();
    if let Some(Object::Tuple(arguments)) = graph.object(opaque.arguments) {
        let arguments = arguments.iter().take(FIELDS).enumerate();
        fields.extend(arguments.filter_map(|(i, &item)| Some((format!("[{i}]"), plain(item)?))));
    }
    // A state is a dictionary of attributes, or two of them.
    let state = match graph.object(opaque.state) {
        Some(Object::Tuple(two)) => two.iter().rev().find_map(|&item| graph.object(item)),
        other => other,
    };
    if let Some(Object::Dict { entries, .. }) = state {
        for &(key, value) in entries.iter().take(FIELDS) {
            if let (Some(Object::Str(key)), Some(value)) = (graph.object(key), plain(value)) {
                fields.push((short(key), value));
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_run_is_known_by_its_name() {
        let foreign = |name: &str, called| Foreign { name: name.to_owned(), called };
        for name in ["os.system", "builtins.eval", "torch.os.system", "subprocess.Popen", "torch.hub.load"] {
            assert!(foreign(name, true).would_run(), "{name}");
            assert!(!foreign(name, false).would_run(), "{name}, only mentioned");
        }
        for name in ["argparse.Namespace", "pathlib.PosixPath", "datetime.datetime", "my.os_tools.Loader"] {
            assert!(!foreign(name, true).would_run(), "{name}");
        }
    }
}
