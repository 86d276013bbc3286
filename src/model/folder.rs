//! The list of an account's mailboxes.

use std::sync::Arc;

/// A special use (RFC 6154, RFC 8457). Bound by attribute, never by name; a preset's names are the last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    All,
    Archive,
    Drafts,
    Flagged,
    Important,
    Junk,
    Sent,
    Trash,
}

impl Role {
    pub const ALL: [Self; 8] =
        [Self::All, Self::Archive, Self::Drafts, Self::Flagged, Self::Important, Self::Junk, Self::Sent, Self::Trash];

    /// The attribute as RFC 6154 writes it.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Important => "\\Important",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }

    /// Reads a SPECIAL-USE attribute, or its older XLIST spelling (`\AllMail`, `\Spam`, `\Starred`).
    pub fn from_attribute(text: &str) -> Option<Self> {
        let known = Self::ALL.into_iter().find(|role| role.attribute().eq_ignore_ascii_case(text));
        known.or_else(|| match text.to_ascii_lowercase().as_str() {
            "\\allmail" => Some(Self::All),
            "\\spam" => Some(Self::Junk),
            "\\starred" => Some(Self::Flagged),
            _ => None,
        })
    }
}

/// One mailbox name as LIST tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The name as on the upstream's wire (modified UTF-7); `INBOX` always in capitals.
    pub name: Arc<str>,
    /// The hierarchy delimiter, none for a flat name.
    pub delimiter: Option<char>,
    /// `\Noselect` or `\NonExistent`: holds children, no messages.
    pub noselect: bool,
    pub noinferiors: bool,
    pub subscribed: bool,
    pub role: Option<Role>,
}

/// The mailboxes of an account, sorted by name, INBOX first. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    pub list: Vec<Folder>,
    /// The personal namespace's delimiter.
    pub delimiter: Option<char>,
    /// The personal namespace's prefix, often empty (RFC 2342).
    pub prefix: Arc<str>,
    /// Names subscribed to that do not exist (LSUB may tell them).
    pub dangling: Vec<Arc<str>>,
}

impl Folders {
    /// Finds a mailbox; `INBOX` in any case (RFC 9051 §5.1).
    pub fn find(&self, name: &str) -> Option<&Folder> {
        let inbox = name.eq_ignore_ascii_case("INBOX");
        self.list.iter().find(|folder| &*folder.name == name || (inbox && &*folder.name == "INBOX"))
    }

    pub fn by_role(&self, role: Role) -> Option<&Folder> {
        self.list.iter().find(|folder| folder.role == Some(role))
    }

    /// Whether some other mailbox stands below this one.
    pub fn has_children(&self, folder: &Folder) -> bool {
        let Some(delimiter) = folder.delimiter else { return false };
        self.list.iter().any(|other| {
            other.name.strip_prefix(&*folder.name).is_some_and(|rest| rest.len() > 1 && rest.starts_with(delimiter))
        })
    }
}
