//! What is wrong with a configuration, told so that it can be mended: file, line, key, fault, mend.
//!
//! All faults are collected and told at once; nobody should have to start a daemon five times to find five typing errors.
//! A fault never repeats a value that could be a secret (Law 12).

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing wrong (or, among [`super::Config::warnings`], unwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    /// From 1; 0 when it concerns the whole file.
    pub line: usize,
    /// The path of the key, like `account[0].imap.port`; empty when it concerns the whole file.
    pub key: String,
    /// What is wrong, without a full stop.
    pub what: String,
    /// What to do, a sentence.
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}. {}", self.what, self.mend)
    }
}

/// Collects faults while a file is read. Shared by reference among the readers of its parts, hence the cell.
pub(super) struct Faults<'a> {
    file: &'a Path,
    text: &'a str,
    list: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, list: RefCell::default(), warnings: RefCell::default() }
    }

    pub(super) fn add(&self, key: &str, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        let fault = self.make(key, span, what.into(), mend.into());
        self.list.borrow_mut().push(fault);
    }

    pub(super) fn warn(&self, key: &str, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        let fault = self.make(key, span, what.into(), mend.into());
        self.warnings.borrow_mut().push(fault);
    }

    /// The faults in the order of the file, or else the warnings.
    pub(super) fn finish(self) -> Result<Vec<Fault>, Vec<Fault>> {
        let mut list = self.list.into_inner();
        if list.is_empty() {
            return Ok(self.warnings.into_inner());
        }
        list.sort_by_key(|fault| fault.line);
        Err(list)
    }

    fn make(&self, key: &str, span: Range<usize>, what: String, mend: String) -> Fault {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        Fault { file: self.file.to_owned(), line, key: key.to_owned(), what, mend }
    }
}

/// The known word nearest to a mistyped one, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let allowed = if word.len() <= 4 { 1 } else { 2 };
    known.into_iter().map(|k| (distance(&word, k), k)).filter(|(d, _)| *d <= allowed).min().map(|(_, k)| k)
}

/// Edits (insert, delete, replace, swap neighbours) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_only_when_near() {
        let known = ["host", "port", "tls", "username", "ca_file"];
        let table = [
            ("hsot", Some("host")),
            ("user_name", Some("username")),
            ("ca-file", Some("ca_file")),
            ("Port", Some("port")),
            ("tsl", Some("tls")),
            ("banana", None),
            ("", None),
        ];
        for (word, want) in table {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }
}
