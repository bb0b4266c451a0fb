//! The classes of recordings: how many, and what they are called.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use escape_network::arch::{CLASS_NAMES, CLASSES, class_name};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::recordings::MOST_CLASSES;

/// The classes of recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Classes {
    /// Those of whoever reads: of a network that is given, otherwise the nerve's three.
    #[default]
    Open,
    /// So many, called by their numbers, or as the nerve's three are.
    Count(usize),
    /// With names, in the order of their labels.
    Named(Vec<String>),
}

impl Classes {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Open => CLASSES,
            Self::Count(count) => *count,
            Self::Named(names) => names.len(),
        }
    }

    /// What they are called.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Named(names) => names.clone(),
            _ => (0..self.count()).map(|class| class_name(class, self.count())).collect(),
        }
    }

    /// The class that a text names: in any case, with or without spaces and hyphens, or the first letters of one name, four at
    /// least.
    pub(crate) fn named(&self, text: &str) -> Option<usize> {
        const ENOUGH: usize = 4;
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
        };
        // Names that are told by their punctuation alone are taken to the letter.
        if let Some(class) = self.exactly(text) {
            return Some(class);
        }
        let text = plain(text);
        let names: Vec<String> = match self {
            Self::Named(names) => names.iter().map(|name| plain(name)).collect(),
            _ if self.count() == CLASSES => CLASS_NAMES.map(str::to_owned).to_vec(),
            _ => Vec::new(),
        };
        let only = |fits: &dyn Fn(&String) -> bool| {
            let mut found = (0..names.len()).filter(|&class| fits(&names[class]));
            found.next().filter(|_| found.next().is_none())
        };
        only(&|name| *name == text)
            .or_else(|| only(&|name| text.len() >= ENOUGH && name.starts_with(&text)))
            .filter(|_| !text.is_empty())
    }

    /// The class whose name a text is to the letter.
    pub(crate) fn exactly(&self, text: &str) -> Option<usize> {
        let Self::Named(names) = self else { return None };
        names.iter().position(|name| name == text.trim())
    }

    /// With names.
    ///
    /// # Errors
    /// Fewer than two, one that is empty or there twice, in words.
    pub fn of_names(names: Vec<String>) -> Result<Self, String> {
        let mut seen = HashSet::new();
        if names.len() < 2 || names.len() > MOST_CLASSES {
            return Err(format!("expected 2 to {MOST_CLASSES} classes, got {}", names.len()));
        }
        for name in &names {
            if name.trim().is_empty() {
                return Err("a class without a name".to_owned());
            }
            if !seen.insert(name.as_str()) {
                return Err(format!("the class '{name}' is there twice"));
            }
        }
        Ok(Self::Named(names))
    }

    /// So many.
    ///
    /// # Errors
    /// Fewer than two, or more than any labels have, in words.
    pub fn of_count(count: usize) -> Result<Self, String> {
        match (2..=MOST_CLASSES).contains(&count) {
            true => Ok(Self::Count(count)),
            false => Err(format!("expected 2 to {MOST_CLASSES} classes, got {count}")),
        }
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Named(names) => f.write_str(&names.join(",")),
        }
    }
}

impl FromStr for Classes {
    type Err = String;

    /// A number, or names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse::<i64>() {
            Ok(count) => Self::of_count(usize::try_from(count).unwrap_or(0)),
            Err(_) if !text.contains(',') => Err(format!(
                "expected a number of classes, or their names with commas between them, got {text:?}"
            )),
            Err(_) => Self::of_names(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }
}

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Open => serializer.serialize_none(),
            Self::Count(count) => serializer.serialize_u64(*count as u64),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of classes, or a list of their names")]
        enum Form {
            Count(usize),
            Names(Vec<String>),
        }
        let made = match Option::<Form>::deserialize(deserializer)? {
            None => return Ok(Self::Open),
            Some(Form::Count(count)) => Self::of_count(count),
            Some(Form::Names(names)) => Self::of_names(names),
        };
        made.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_names() {
        assert_eq!("4".parse(), Ok(Classes::Count(4)));
        let named: Classes = "rest, flex,extend".parse().unwrap();
        assert_eq!(named.names(), ["rest", "flex", "extend"]);
        for (text, part) in [
            ("1", "2 to 10000"),
            ("-3", "got 0"),
            ("rest", "names with commas"),
            ("a,a", "twice"),
            ("a,,b", "without a name"),
        ] {
            let why = text.parse::<Classes>().unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        assert_eq!(Classes::Open.names(), CLASS_NAMES);
        assert_eq!(Classes::Count(2).names(), ["class 0", "class 1"]);
    }

    #[test]
    fn names_in_any_spelling() {
        for classes in [Classes::Open, Classes::Count(3)] {
            for (text, class) in
                [("Dorsi-Flexion", Some(0)), ("plan", Some(1)), ("pri", None), ("PRICKING", Some(2))]
            {
                assert_eq!(classes.named(text), class, "{text}");
            }
        }
        let classes: Classes = "rest,flex fast,flex slow,e".parse().unwrap();
        for (text, class) in [
            ("REST", Some(0)),
            ("flex", None),
            ("Flex-Slow", Some(2)),
            ("flexf", Some(1)),
            ("e", Some(3)),
            ("", None),
        ] {
            assert_eq!(classes.named(text), class, "{text}");
        }
        assert_eq!(Classes::Count(4).named("dorsiflexion"), None);
        // Apart by punctuation only.
        let signs: Classes = "+,-".parse().unwrap();
        assert_eq!((signs.named("+"), signs.named(" - "), signs.named("x")), (Some(0), Some(1), None));
    }

    #[test]
    fn in_a_configuration_it_is_a_number_or_a_list() {
        let read = |text: &str| serde_json::from_str::<Classes>(text).map_err(|why| why.to_string());
        assert_eq!(read("5"), Ok(Classes::Count(5)));
        assert_eq!(read("null"), Ok(Classes::Open));
        let named = read(r#"["a","b"]"#).unwrap();
        assert_eq!(serde_json::to_string(&named).unwrap(), r#"["a","b"]"#);
        assert!(read(r#"["a","a"]"#).unwrap_err().contains("twice"));
        assert!(read("true").unwrap_err().contains("a list of their names"));
    }
}
