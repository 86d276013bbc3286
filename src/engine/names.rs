//! English names for special mailboxes that the provider calls otherwise (`english_names`), for programs that look for `Sent` and `Trash`
//! and know nothing of SPECIAL-USE (RFC 6154): pure.
//!
//! What is special is told by the role, never by the name. Each such mailbox and what stands below it changes places with the English
//! name and what would stand below that, so one function goes both ways and no two names ever become one. A name that is there already
//! is left to whom it belongs.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::account::Inner;
use super::error::Error;
use super::folders::canonical;
use crate::model::{Folder, Folders, Role};

/// What the roles are called. `\All`, `\Flagged` and `\Important` are views of other mailboxes, with no name that programs agree on.
const ENGLISH: [(Role, &str); 5] = [
    (Role::Sent, "Sent"),
    (Role::Drafts, "Drafts"),
    (Role::Trash, "Trash"),
    (Role::Junk, "Junk"),
    (Role::Archive, "Archive"),
];

/// The names that change places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    swaps: Vec<Swap>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Swap {
    upstream: Arc<str>,
    english: Arc<str>,
    delimiter: Option<char>,
}

impl Names {
    pub(crate) fn of(folders: &Folders) -> Self {
        let mut swaps: Vec<Swap> = Vec::new();
        for (role, english) in ENGLISH {
            let mut of_role = folders.list.iter().filter(|folder| folder.role == Some(role));
            // Two of a role: neither is the one.
            let (Some(folder), None) = (of_role.next(), of_role.next()) else { continue };
            let swap = Swap {
                upstream: Arc::clone(&folder.name),
                english: format!("{}{english}", folders.prefix).into(),
                delimiter: folder.delimiter,
            };
            if !folder.noselect && &*folder.name != "INBOX" && swap.is_free(folders) {
                swaps.push(swap);
            }
        }
        // A special mailbox below another goes along with that one, or a name would have two meanings.
        let inner = |swap: &Swap| {
            swaps.iter().any(|other| other.below(&other.upstream, &swap.upstream).is_some_and(|rest| !rest.is_empty()))
        };
        let swaps = swaps.iter().filter(|swap| !inner(swap)).cloned().collect();
        Self { swaps }
    }

    /// The provider's name for what a client calls so, and the other way round.
    pub(crate) fn swap<'a>(&self, name: &'a str) -> Cow<'a, str> {
        for swap in &self.swaps {
            if let Some(rest) = swap.below(&swap.upstream, name) {
                return Cow::Owned(format!("{}{rest}", swap.english));
            }
            if let Some(rest) = swap.below(&swap.english, name) {
                return Cow::Owned(format!("{}{rest}", swap.upstream));
            }
        }
        Cow::Borrowed(name)
    }

    /// Whether this, from a client, is the name of a mailbox that has another one now.
    fn is_taken(&self, name: &str) -> bool {
        self.swaps.iter().any(|swap| swap.below(&swap.upstream, name).is_some())
    }

    /// The list as clients see it.
    pub(crate) fn show(&self, folders: &Folders) -> Folders {
        let shown = |name: &Arc<str>| match self.swap(name) {
            Cow::Borrowed(_) => Arc::clone(name),
            Cow::Owned(name) => name.into(),
        };
        let mut list: Vec<Folder> =
            folders.list.iter().map(|folder| Folder { name: shown(&folder.name), ..folder.clone() }).collect();
        list.sort_by(|a, b| (&*a.name != "INBOX", &a.name).cmp(&(&*b.name != "INBOX", &b.name)));
        Folders { list, dangling: folders.dangling.iter().map(shown).collect(), ..folders.clone() }
    }
}

impl Swap {
    /// What follows `root` in the name of it (nothing) or of a mailbox below it (from the delimiter on).
    fn below<'a>(&self, root: &str, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(root)?;
        (rest.is_empty() || self.delimiter.is_some_and(|delimiter| rest.starts_with(delimiter))).then_some(rest)
    }

    /// Whether nobody has the English name, nor one below it; case is set aside, as some servers do. And it is not below the mailbox.
    fn is_free(&self, folders: &Folders) -> bool {
        let english = self.english.to_ascii_lowercase();
        let names = folders.list.iter().map(|folder| &folder.name).chain(&folders.dangling);
        let taken = |name: &Arc<str>| self.below(&english, &name.to_ascii_lowercase()).is_some();
        !names.into_iter().any(taken) && self.below(&self.upstream, &self.english).is_none()
    }
}

impl Inner {
    /// The list of mailboxes as clients see it.
    pub(crate) fn shown_folders(&self, folders: Arc<Folders>) -> Arc<Folders> {
        if self.options.english_names { Arc::new(Names::of(&folders).show(&folders)) } else { folders }
    }

    /// What a client calls this mailbox.
    pub(crate) fn shown_name(&self, name: &str) -> String {
        let folders = self.options.english_names.then(|| self.folders.newest()).flatten();
        folders.map_or_else(|| name.to_owned(), |folders| Names::of(&folders).swap(name).into_owned())
    }

    /// The provider's name of what a client calls so.
    pub(crate) async fn upstream_name<'a>(self: &Arc<Self>, name: &'a str) -> Result<Cow<'a, str>, Error> {
        if !self.options.english_names {
            return Ok(Cow::Borrowed(name));
        }
        let names = Names::of(&*self.known_folders().await?);
        Ok(Cow::Owned(names.swap(&canonical(name)).into_owned()))
    }

    /// The same of a mailbox that is to be made. The provider's own name of one that is shown in English is taken.
    pub(crate) async fn new_upstream_name<'a>(self: &Arc<Self>, name: &'a str) -> Result<Cow<'a, str>, Error> {
        if self.options.english_names && Names::of(&*self.known_folders().await?).is_taken(&canonical(name)) {
            return Err(Error::Exists(name.to_owned()));
        }
        self.upstream_name(name).await
    }

    async fn known_folders(self: &Arc<Self>) -> Result<Arc<Folders>, Error> {
        match self.folders.newest() {
            Some(folders) => Ok(folders),
            None => self.current_folders().await,
        }
    }
}

/// A QUOTAROOT line (RFC 9208 §4.4.3) with the mailbox named as the client did, however upstream spells it there.
pub(crate) fn shown_quota_root(line: Bytes, asked: &str, upstream: &str) -> Bytes {
    const WORD: &str = "QUOTAROOT ";
    let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let Some((word, told)) = line.split_at_checked(WORD.len()) else { return line };
    if asked == upstream || !word.eq_ignore_ascii_case(WORD.as_bytes()) {
        return line;
    }
    for name in [quoted(upstream), format!("{{{}}}\r\n{upstream}", upstream.len()), upstream.to_owned()] {
        let rest = told.strip_prefix(name.as_bytes());
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(b" ")) {
            return [WORD.as_bytes(), quoted(asked).as_bytes(), rest].concat().into();
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn folder(name: &str, role: Option<Role>) -> Folder {
        let name = name.into();
        Folder { name, delimiter: Some('/'), noselect: false, noinferiors: false, subscribed: false, role }
    }

    fn folders(list: &[(&str, Option<Role>)]) -> Folders {
        let list = list.iter().map(|(name, role)| folder(name, *role)).collect();
        Folders { list, delimiter: Some('/'), ..Folders::default() }
    }

    #[test]
    fn special_mailboxes_have_english_names() {
        let all = folders(&[
            ("INBOX", None),
            ("&BB4EQgQ,-", Some(Role::Sent)),
            ("&BB4EQgQ,-/2024", None),
            ("&BB4EQgQ,-x", None),
            ("[Gmail]/Papierkorb", Some(Role::Trash)),
            ("[Gmail]/Alle", Some(Role::All)),
            // Named so by somebody else, in a way.
            ("Entw&APw-rfe", Some(Role::Drafts)),
            ("DRAFTS/old", None),
            // English already; two of a role; below another one.
            ("Archive", Some(Role::Archive)),
            ("a", Some(Role::Junk)),
            ("b", Some(Role::Junk)),
        ]);
        let names = Names::of(&all);
        let shown: Vec<String> = names.show(&all).list.iter().map(|folder| folder.name.to_string()).collect();
        let want = [
            "INBOX",
            "&BB4EQgQ,-x",
            "Archive",
            "DRAFTS/old",
            "Entw&APw-rfe",
            "Sent",
            "Sent/2024",
            "Trash",
            "[Gmail]/Alle",
            "a",
            "b",
        ];
        assert_eq!(shown, want);
        for (client, upstream) in [
            ("Sent", "&BB4EQgQ,-"),
            ("Sent/new/one", "&BB4EQgQ,-/new/one"),
            ("Sentx", "Sentx"),
            ("Trash", "[Gmail]/Papierkorb"),
            ("[Gmail]/Papierkorb", "Trash"),
            ("INBOX", "INBOX"),
        ] {
            assert_eq!(names.swap(client), upstream);
            assert_eq!(names.swap(upstream), client);
        }
        assert!(names.is_taken("[Gmail]/Papierkorb/x") && !names.is_taken("Trash"));
    }

    #[test]
    fn a_quota_root_is_told_of_the_mailbox_asked_for() {
        for (line, asked, upstream, want) in [
            ("QUOTAROOT Gesendet \"\"", "Sent", "Gesendet", "QUOTAROOT \"Sent\" \"\""),
            ("QUOTAROOT \"Gesendet\" \"\" \"b\"", "Sent", "Gesendet", "QUOTAROOT \"Sent\" \"\" \"b\""),
            ("quotaroot {8}\r\nGesendet a", "Sent", "Gesendet", "QUOTAROOT \"Sent\" a"),
            ("QUOTAROOT Gesendet", "Sent", "Gesendet", "QUOTAROOT \"Sent\""),
            (r#"QUOTAROOT "a\"b\\c" x"#, r#"Sent/"\"#, r#"a"b\c"#, r#"QUOTAROOT "Sent/\"\\" x"#),
            // Another one, one that only begins so, and other lines.
            ("QUOTAROOT Gesendetes x", "Sent", "Gesendet", "QUOTAROOT Gesendetes x"),
            ("QUOTAROOT INBOX x", "Sent", "Gesendet", "QUOTAROOT INBOX x"),
            ("QUOTAROOT Sent x", "Sent", "Sent", "QUOTAROOT Sent x"),
            ("QUOTA Gesendet (STORAGE 1 2)", "Sent", "Gesendet", "QUOTA Gesendet (STORAGE 1 2)"),
            ("QUOTAROOT", "Sent", "Gesendet", "QUOTAROOT"),
        ] {
            let line = Bytes::copy_from_slice(line.as_bytes());
            assert_eq!(shown_quota_root(line, asked, upstream), want, "{asked} {upstream}");
        }
    }

    #[test]
    fn the_namespace_is_kept_and_nested_ones_go_along() {
        let mut all = folders(&[
            ("INBOX", None),
            ("INBOX.Archiv", Some(Role::Archive)),
            ("INBOX.Archiv.Korb", Some(Role::Trash)),
        ]);
        all.list.iter_mut().for_each(|folder| folder.delimiter = Some('.'));
        all.prefix = "INBOX.".into();
        let names = Names::of(&all);
        assert_eq!(names.swap("INBOX.Archiv.Korb"), "INBOX.Archive.Korb");
        assert_eq!(names.swap("INBOX.Trash"), "INBOX.Trash");
    }

    /// Whatever mailboxes there are: no name has two meanings, and the way back is the way there.
    #[test]
    fn names_change_places_one_for_one() {
        let seed: u64 = std::env::var("MAILWEIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(77);
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let parts = ["Sent", "sent", "Trash", "Archive", "Junk", "Drafts", "a", "b", "Papierkorb", ""];
        let mut mapped = 0;
        for _ in 0..5000 {
            let mut name = || {
                let depth = random.random_range(1..=3);
                (0..depth).map(|_| parts[random.random_range(0..parts.len())]).collect::<Vec<_>>().join("/")
            };
            let some: BTreeSet<String> = (0..6).map(|_| name()).filter(|name| !name.is_empty()).collect();
            let others: BTreeSet<String> = (0..20).map(|_| name()).collect();
            let list = some.iter().map(|name| {
                let role = random.random_bool(0.6).then(|| ENGLISH[random.random_range(0..ENGLISH.len())].0);
                folder(name, role)
            });
            let all = Folders { list: list.collect(), delimiter: Some('/'), ..Folders::default() };
            let names = Names::of(&all);
            mapped += names.swaps.len();
            for name in some.iter().chain(&others) {
                assert_eq!(names.swap(&names.swap(name)), *name, "{all:?}");
            }
            let shown: BTreeSet<Arc<str>> = names.show(&all).list.into_iter().map(|folder| folder.name).collect();
            assert_eq!(shown.len(), some.len(), "{all:?}");
        }
        assert!(mapped > 1000, "{mapped}");
    }
}
