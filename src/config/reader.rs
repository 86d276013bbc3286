//! Reading a TOML tree with its places in the file: each question a table is asked either answers a value or adds a fault.
//!
//! The tree is asked by hand and not through serde, because serde stops at the first fault and we tell all of them, each
//! with its line and key path.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Faults, nearest};
use super::schema::Section;
use super::values::Wrong;

/// A value and where it stands.
pub(super) struct At<'a, T> {
    pub(super) value: T,
    pub(super) key: String,
    pub(super) span: Range<usize>,
    faults: &'a Faults<'a>,
}

impl<'a, T> At<'a, T> {
    pub(super) fn fault(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.faults.add(&self.key, self.span.clone(), what, mend);
    }

    /// The value parsed further; `None` (and a fault) when the parser refuses.
    pub(super) fn parse<U>(self, parser: impl FnOnce(&T) -> Result<U, Wrong>) -> Option<U> {
        match parser(&self.value) {
            Ok(parsed) => Some(parsed),
            Err((what, mend)) => {
                self.fault(what, mend);
                None
            }
        }
    }
}

/// A table and its path.
pub(super) struct Table<'a> {
    table: Option<&'a DeTable<'a>>,
    path: String,
    span: Range<usize>,
    faults: &'a Faults<'a>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a DeTable<'a>, faults: &'a Faults<'a>) -> Self {
        Self { table: Some(table), path: String::new(), span: 0..0, faults }
    }

    /// Adds a fault for every key the section does not have.
    pub(super) fn allow(&self, section: &Section) {
        self.allow_keys(section.keys, if section.path.is_empty() { "at the top" } else { section.path });
    }

    pub(super) fn allow_keys(&self, keys: &[&'static str], place: &str) {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if keys.contains(&name) {
                continue;
            }
            let mend = match nearest(name, keys.iter().copied()) {
                Some(known) => format!("Did you mean `{known}`?"),
                None => format!("Known {place}: {}.", keys.join(", ")),
            };
            self.faults.add(&self.path_of(name), key.span(), "there is no such key", mend);
        }
    }

    /// The keys as they are written, for a table whose keys are the user's own.
    pub(super) fn keys(&self) -> Vec<&'a str> {
        self.table.into_iter().flat_map(DeTable::keys).map(|key| key.get_ref().as_ref()).collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the file has this table at all.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// A fault about a key that may be missing: told at the key if it is there, else where its table begins.
    pub(super) fn fault(&self, key: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.faults.add(&self.path_of(key), self.place_of(key), what, mend);
    }

    pub(super) fn warn(&self, key: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.faults.warn(&self.path_of(key), self.place_of(key), what, mend);
    }

    pub(super) fn text(&self, key: &str) -> Option<At<'a, &'a str>> {
        let value = self.value(key)?;
        self.typed(key, value, value.get_ref().as_str(), "must be a text in quotes")
    }

    /// A text that may not be empty or hold control characters.
    pub(super) fn word(&self, key: &str) -> Option<At<'a, &'a str>> {
        let at = self.text(key)?;
        if at.value.trim().is_empty() || at.value.chars().any(char::is_control) {
            at.fault("is empty or holds control characters", "Give it a value or leave the key out.");
            return None;
        }
        Some(at)
    }

    pub(super) fn boolean(&self, key: &str) -> Option<At<'a, bool>> {
        let value = self.value(key)?;
        self.typed(key, value, value.get_ref().as_bool(), "must be true or false")
    }

    pub(super) fn number(&self, key: &str) -> Option<At<'a, u64>> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        self.typed(key, value, number, "must be a whole number, not below 0")
    }

    /// A list of texts; an absent key gives `None`, an entry of another type a fault.
    pub(super) fn list(&self, key: &str) -> Option<Vec<At<'a, &'a str>>> {
        let value = self.value(key)?;
        let mut mend = "must be a list".to_owned();
        if value.get_ref().is_str() {
            mend.push_str(" (put the text in brackets: [\"…\"])");
        }
        let list = self.typed(key, value, value.get_ref().as_array(), &mend)?;
        let entries = list.value.iter().enumerate();
        Some(
            entries
                .filter_map(|(i, entry)| {
                    let key = format!("{key}[{i}]");
                    self.typed(&key, entry, entry.get_ref().as_str(), "must be a text in quotes")
                })
                .collect(),
        )
    }

    /// A sub-table. One that is absent (or of a wrong type, which is a fault) answers as an empty one standing where this
    /// table stands.
    pub(super) fn table(&self, key: &str) -> Self {
        let table = self.value(key).and_then(|value| {
            let mend = format!("must be a table, [{}] or {{ … }}", self.path_of(key));
            self.typed(key, value, value.get_ref().as_table(), &mend)
        });
        Self { table: table.map(|t| t.value), path: self.path_of(key), span: self.place_of(key), faults: self.faults }
    }

    /// An array of tables.
    pub(super) fn tables(&self, key: &str) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let mend = format!("must be written [[{}]], two brackets each side", self.path_of(key));
        let Some(list) = self.typed(key, value, value.get_ref().as_array(), &mend) else { return Vec::new() };
        let entries = list.value.iter().enumerate();
        entries
            .filter_map(|(i, entry)| {
                let key = format!("{key}[{i}]");
                let table = self.typed(&key, entry, entry.get_ref().as_table(), "must be a table")?;
                Some(Self { table: Some(table.value), path: table.key, span: table.span, faults: self.faults })
            })
            .collect()
    }

    /// Whether `key` holds a text and not a table: for saying what to write instead.
    pub(super) fn is_text(&self, key: &str) -> bool {
        self.value(key).is_some_and(|v| v.get_ref().is_str())
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", _) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, _) => format!("{path}.{key}"),
        }
    }

    fn place_of(&self, key: &str) -> Range<usize> {
        let found = self.table.and_then(|t| t.get_key_value(key));
        found.map_or_else(|| self.span.clone(), |(k, _)| k.span())
    }

    fn typed<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, found: Option<T>, must: &str) -> Option<At<'a, T>> {
        let key = self.path_of(key);
        let Some(found) = found else {
            // The type found is told, the value is not: it may be a secret.
            let is = value.get_ref().type_str();
            self.faults.add(&key, value.span(), must, format!("It is a TOML {is} now."));
            return None;
        };
        Some(At { value: found, key, span: value.span(), faults: self.faults })
    }
}
