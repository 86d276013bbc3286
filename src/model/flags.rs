//! Flags of a message: the five system flags as bits, keywords as a shared sorted list.

use std::fmt;
use std::sync::Arc;

/// The settable system flags (RFC 9051 §2.3.2). `\Recent` is not kept: it belongs to one upstream session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SystemFlags(u8);

impl SystemFlags {
    pub const SEEN: Self = Self(1);
    pub const ANSWERED: Self = Self(2);
    pub const FLAGGED: Self = Self(4);
    pub const DELETED: Self = Self(8);
    pub const DRAFT: Self = Self(16);

    /// Every flag with its name, in the order they are written.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 31)
    }

    pub fn bits(self) -> u8 {
        self.0
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A keyword as its first user spelled it; compared without regard to ASCII case (RFC 9051 §2.3.2).
#[derive(Clone, Debug)]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// The keyword, or nothing for text that is not a flag-keyword atom of at most 255 bytes.
    pub fn new(text: &str) -> Option<Self> {
        let ok = !text.is_empty()
            && text.len() <= 255
            && text.bytes().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\".contains(&b));
        ok.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|b| b.to_ascii_lowercase())
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for Keyword {}
impl PartialOrd for Keyword {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Keyword {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(other.key())
    }
}

/// A message's flags: a set, so order and repetition carry no meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub system: SystemFlags,
    keywords: Option<Arc<[Keyword]>>,
}

impl Flags {
    pub fn new(system: SystemFlags, keywords: impl IntoIterator<Item = Keyword>) -> Self {
        let mut flags = Self { system, keywords: None };
        flags.set_keywords(keywords.into_iter().collect());
        flags
    }

    /// Reads flag names as written in IMAP. `\Recent`, unknown backslash flags and malformed keywords are left
    /// out: a message is never lost for an odd flag.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut system = SystemFlags::default();
        let mut keywords = Vec::new();
        for name in names {
            if name.starts_with('\\') {
                if let Some((bit, _)) = SystemFlags::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)) {
                    system = system.union(*bit);
                }
            } else if let Some(keyword) = Keyword::new(name) {
                keywords.push(keyword);
            }
        }
        Self::new(system, keywords)
    }

    pub fn keywords(&self) -> &[Keyword] {
        self.keywords.as_deref().unwrap_or(&[])
    }

    pub fn has(&self, flag: SystemFlags) -> bool {
        self.system.contains(flag)
    }

    pub fn has_keyword(&self, keyword: &Keyword) -> bool {
        self.keywords().binary_search(keyword).is_ok()
    }

    /// The names of the system flags that are set.
    pub fn system_names(&self) -> impl Iterator<Item = &str> {
        SystemFlags::NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| *name)
    }

    /// The flag names in writing order: system flags, then keywords.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.system_names().chain(self.keywords().iter().map(Keyword::as_str))
    }

    /// The result of a STORE with `other` (RFC 9051 §6.4.6).
    pub fn apply(&self, op: FlagOp, other: &Self) -> Self {
        match op {
            FlagOp::Replace => other.clone(),
            FlagOp::Add => {
                let all = self.keywords().iter().chain(other.keywords()).cloned();
                Self::new(self.system.union(other.system), all)
            }
            FlagOp::Remove => {
                let left = self.keywords().iter().filter(|keyword| !other.has_keyword(keyword)).cloned();
                Self::new(self.system.without(other.system), left)
            }
        }
    }

    fn set_keywords(&mut self, mut keywords: Vec<Keyword>) {
        // A stable sort and dedup keep the first spelling of a keyword.
        keywords.sort();
        keywords.dedup();
        self.keywords = (!keywords.is_empty()).then(|| keywords.into());
    }
}

impl fmt::Display for Flags {
    /// The names with single spaces between them, without parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// How STORE combines its flags with those of a message (RFC 9051 §6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOp {
    Replace,
    Add,
    Remove,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_a_set_without_case() {
        let a = Flags::parse(["\\Seen", "$Forwarded", "work", "\\Recent", "\\Odd", "bad(one"]);
        let b = Flags::parse(["WORK", "$forwarded", "\\seen"]);
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "\\Seen $Forwarded work");
    }

    #[test]
    fn store_combines() {
        let old = Flags::parse(["\\Seen", "a"]);
        let table = [
            (FlagOp::Add, "\\Deleted b", "\\Deleted \\Seen a b"),
            (FlagOp::Remove, "\\Seen A", ""),
            (FlagOp::Replace, "\\Draft", "\\Draft"),
        ];
        for (op, with, want) in table {
            assert_eq!(old.apply(op, &Flags::parse(with.split(' '))).to_string(), want, "{op:?} {with}");
        }
    }
}
