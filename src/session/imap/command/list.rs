//! LIST in all its forms, LSUB and XLIST. RFC 3501 §6.3.8, §6.3.9; RFC 5258 (LIST-EXTENDED), RFC 5819 (LIST-STATUS),
//! RFC 6154 (SPECIAL-USE), RFC 3348 (CHILDREN).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use super::folders::status_line;
use crate::model::{Folder, Folders, Role};
use crate::session::backend::Account as _;
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{List, ListKind, StatusItem};

impl<L: Login> Session<L> {
    pub(crate) async fn list(&mut self, list: List) -> Result<Reply, Failure> {
        let account = self.account()?;
        let select = list.select;
        if select.recursive_match && !(select.subscribed || select.special_use) {
            // RFC 5258 §3.1: it modifies another option and cannot stand alone.
            return Ok(Reply::bad("RECURSIVEMATCH needs another selection option"));
        }
        if list.returns.status.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore();
        }
        let folders = self.io.wait(account.folders()).await??;
        let limit = account.append_limit();
        for line in lines(&list, &folders) {
            write_line(&mut self.io.out, list.kind, &line);
            if !list.returns.status.is_empty() && line.selectable {
                // RFC 5819 §2: a STATUS that cannot be had is left out; LIST itself has not failed.
                if let Ok(mut data) = self.io.wait(account.status(&line.name)).await? {
                    data.recent += self.recent_of_ours(&line.name);
                    status_line(&mut self.io.out, &line.name, &list.returns.status, &data, limit);
                }
            }
            self.io.flush_if_full().await?;
        }
        Ok(Reply::ok(match list.kind {
            ListKind::List => "List completed",
            ListKind::Lsub => "Lsub completed",
            ListKind::Xlist => "Xlist completed",
        }))
    }
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Line {
    name: Arc<str>,
    delimiter: Option<char>,
    attributes: Vec<&'static str>,
    /// `("CHILDINFO" (…))`: selected by what stands below it (RFC 5258 §4).
    child_info: Vec<&'static str>,
    selectable: bool,
}

/// A name that may be told: a mailbox, a parent that is none, or a subscription to what is gone.
struct Candidate<'a> {
    folder: Option<&'a Folder>,
    subscribed: bool,
}

/// The answers, INBOX first, then by name.
fn lines(list: &List, folders: &Folders) -> Vec<Line> {
    let delimiter = folders.delimiter;
    if list.kind != ListKind::Lsub && !list.extended && list.patterns.iter().all(String::is_empty) {
        return vec![root(&list.reference, delimiter)];
    }
    let patterns: Vec<String> = list
        .patterns
        .iter()
        .filter(|pattern| !pattern.is_empty())
        // A pattern from the root stands for itself, whatever the reference (RFC 3501 §6.3.8: "/usr/doc/foo").
        .map(|pattern| match delimiter {
            Some(delimiter) if pattern.starts_with(delimiter) => pattern.clone(),
            _ => format!("{}{pattern}", list.reference),
        })
        .collect();
    let matches = |name: &str| patterns.iter().any(|pattern| pattern_matches(pattern, name, delimiter));
    let only_subscribed = list.kind == ListKind::Lsub || list.select.subscribed;
    let chosen = |candidate: &Candidate<'_>| {
        (!only_subscribed || candidate.subscribed)
            && (!list.select.special_use || candidate.folder.is_some_and(|folder| folder.role.is_some()))
            && (candidate.folder.is_some() || only_subscribed)
    };
    let candidates = candidates(folders, only_subscribed);
    let mut lines: BTreeMap<(bool, Arc<str>), Line> = BTreeMap::new();
    let key = |name: &Arc<str>| (&**name != "INBOX", Arc::clone(name));
    for (name, candidate) in &candidates {
        if chosen(candidate) && matches(name) {
            lines.insert(key(name), line(list, folders, name, candidate));
        }
    }
    // Parents that are told for the sake of what stands below them.
    let implied = match list.kind {
        ListKind::Lsub => true,
        ListKind::List | ListKind::Xlist => !list.extended || list.select.recursive_match || !only_subscribed,
    };
    // For LSUB only where it is a `%` that stops short of them (RFC 3501 §6.3.9).
    let stands_in = |name: &str| {
        let reaches = |pattern: &&String| list.kind != ListKind::Lsub || pattern.contains('%');
        patterns.iter().filter(reaches).any(|pattern| pattern_matches(pattern, name, delimiter))
    };
    if let (true, Some(delimiter)) = (implied, delimiter) {
        for (name, candidate) in candidates.iter().filter(|(_, candidate)| chosen(candidate)) {
            if list.kind == ListKind::Lsub && matches(name) {
                // RFC 3501 §6.3.9: parents stand in only for names that the pattern does not reach.
                continue;
            }
            for parent in parents(name, delimiter).filter(|parent| stands_in(parent)) {
                let parent: Arc<str> = parent.into();
                imply(list, folders, &candidates, &mut lines, key(&parent), candidate);
            }
        }
    }
    lines.into_values().collect()
}

/// A parent matches the pattern and something below it is selected.
fn imply(
    list: &List,
    folders: &Folders,
    candidates: &BTreeMap<Arc<str>, Candidate<'_>>,
    lines: &mut BTreeMap<(bool, Arc<str>), Line>,
    key: (bool, Arc<str>),
    below: &Candidate<'_>,
) {
    let parent = Arc::clone(&key.1);
    let known = candidates.get(&parent);
    if list.select.recursive_match {
        let line = lines.entry(key).or_insert_with(|| match known {
            Some(candidate) => line(list, folders, &parent, candidate),
            None => bare(list, folders, &parent),
        });
        for (word, applies) in [
            ("SUBSCRIBED", list.select.subscribed && below.subscribed),
            ("SPECIAL-USE", list.select.special_use && below.folder.is_some_and(|folder| folder.role.is_some())),
        ] {
            if applies && !line.child_info.contains(&word) {
                line.child_info.push(word);
            }
        }
    } else if list.kind == ListKind::Lsub {
        // RFC 3501 §6.3.9: with `%`, a parent that is not subscribed itself is told as \Noselect.
        lines.entry(key).or_insert_with(|| bare(list, folders, &parent));
    } else if known.is_none() && !list.select.special_use && !list.select.subscribed {
        lines.entry(key).or_insert_with(|| bare(list, folders, &parent));
    }
}

/// Every name with what is known of it.
fn candidates(folders: &Folders, with_dangling: bool) -> BTreeMap<Arc<str>, Candidate<'_>> {
    let mut all: BTreeMap<Arc<str>, Candidate<'_>> = BTreeMap::new();
    for folder in &folders.list {
        let subscribed = folder.subscribed || folders.dangling.contains(&folder.name);
        all.insert(Arc::clone(&folder.name), Candidate { folder: Some(folder), subscribed });
    }
    if with_dangling {
        for name in &folders.dangling {
            all.entry(Arc::clone(name)).or_insert(Candidate { folder: None, subscribed: true });
        }
    }
    all
}

/// `LIST "" ""`: the delimiter and the root of the reference (RFC 3501 §6.3.8).
fn root(reference: &str, delimiter: Option<char>) -> Line {
    let end = delimiter.and_then(|delimiter| reference.find(delimiter).map(|at| at + delimiter.len_utf8()));
    let root = end.and_then(|end| reference.get(..end)).unwrap_or_default();
    Line { name: root.into(), delimiter, attributes: vec!["\\Noselect"], ..Line::default() }
}

/// A name that is told for its children only.
fn bare(list: &List, folders: &Folders, name: &Arc<str>) -> Line {
    let attributes = match list.kind {
        ListKind::Lsub => vec!["\\Noselect"],
        // RFC 5258 §3: \NonExistent says more, and only clients of that RFC know it.
        _ if list.extended && list.returns.children => vec!["\\NonExistent", "\\HasChildren"],
        _ if list.extended => vec!["\\NonExistent"],
        _ => vec!["\\Noselect", "\\HasChildren"],
    };
    Line { name: Arc::clone(name), delimiter: folders.delimiter, attributes, ..Line::default() }
}

fn line(list: &List, folders: &Folders, name: &Arc<str>, candidate: &Candidate<'_>) -> Line {
    let mut attributes = Vec::new();
    let mut delimiter = folders.delimiter;
    let mut selectable = false;
    let tells_children = list.kind != ListKind::Lsub && (!list.extended || list.returns.children);
    let tells_roles = match list.kind {
        ListKind::Lsub => false,
        ListKind::Xlist => true,
        ListKind::List => !list.extended || list.returns.special_use || list.select.special_use,
    };
    match candidate.folder {
        Some(folder) => {
            delimiter = folder.delimiter;
            selectable = !folder.noselect;
            // In LSUB it is said of what is not subscribed itself (RFC 3501 §6.3.9), and this one is.
            if folder.noselect && list.kind != ListKind::Lsub {
                attributes.push("\\Noselect");
            }
            if folder.noinferiors {
                attributes.push("\\NoInferiors");
            }
            if tells_children && !folder.noinferiors {
                attributes.push(if folders.has_children(folder) { "\\HasChildren" } else { "\\HasNoChildren" });
            }
            if list.kind == ListKind::Xlist && &*folder.name == "INBOX" {
                attributes.push("\\Inbox");
            }
            if let Some(role) = folder.role.filter(|_| tells_roles) {
                attributes.push(if list.kind == ListKind::Xlist { xlist_name(role) } else { role.attribute() });
            }
        }
        None if list.kind == ListKind::Lsub => {}
        None => attributes.push("\\NonExistent"),
    }
    if list.kind == ListKind::List && candidate.subscribed && (list.returns.subscribed || list.select.subscribed) {
        attributes.push("\\Subscribed");
    }
    Line { name: Arc::clone(name), delimiter, attributes, child_info: Vec::new(), selectable }
}

/// XLIST's own words for what RFC 6154 named anew.
fn xlist_name(role: Role) -> &'static str {
    match role {
        Role::All => "\\AllMail",
        Role::Junk => "\\Spam",
        Role::Flagged => "\\Starred",
        other => other.attribute(),
    }
}

fn write_line(out: &mut BytesMut, kind: ListKind, line: &Line) {
    render::text(
        out,
        match kind {
            ListKind::List => "* LIST (",
            ListKind::Lsub => "* LSUB (",
            ListKind::Xlist => "* XLIST (",
        },
    );
    render::text(out, &line.attributes.join(" "));
    render::text(out, ") ");
    render::delimiter(out, line.delimiter);
    render::text(out, " ");
    render::mailbox(out, &line.name);
    if !line.child_info.is_empty() {
        render::text(out, " (\"CHILDINFO\" (\"");
        render::text(out, &line.child_info.join("\" \""));
        render::text(out, "\"))");
    }
    render::text(out, "\r\n");
}

/// The names above a name, nearest last.
fn parents(name: &str, delimiter: char) -> impl Iterator<Item = &str> {
    name.match_indices(delimiter).filter_map(|(at, _)| name.get(..at)).filter(|parent| !parent.is_empty())
}

/// RFC 3501 §6.3.8: `*` is anything, `%` anything without a delimiter; INBOX in any case. Linear in both lengths for each
/// wildcard kept, so that no pattern runs away.
fn pattern_matches(pattern: &str, name: &str, delimiter: Option<char>) -> bool {
    let inbox = |text: &str| {
        let head = text.get(..5).filter(|head| head.eq_ignore_ascii_case("INBOX"))?;
        let rest = text.get(5..).unwrap_or_default();
        let ends = rest.is_empty() || rest.starts_with(['*', '%']) || delimiter.is_some_and(|d| rest.starts_with(d));
        ends.then(|| format!("{}{rest}", head.to_ascii_uppercase()))
    };
    let pattern = inbox(pattern).unwrap_or_else(|| pattern.to_owned());
    // `matched[i]`: the pattern so far matches the first i characters of the name.
    let name: Vec<char> = name.chars().collect();
    let mut matched = vec![false; name.len() + 1];
    if let Some(first) = matched.first_mut() {
        *first = true;
    }
    for symbol in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        let mut carried = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let before = at.checked_sub(1).and_then(|before| name.get(before)).copied();
            let here = matched.get(at).copied().unwrap_or(false);
            let previous = at.checked_sub(1).and_then(|before| matched.get(before)).copied().unwrap_or(false);
            *slot = match symbol {
                '*' => {
                    carried |= here;
                    carried
                }
                '%' => {
                    carried = here || (carried && before != delimiter);
                    carried
                }
                symbol => previous && before == Some(symbol),
            };
        }
        matched = next;
    }
    matched.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::imap::command::{Command, Tagged};
    use crate::wire::imap::parse;

    #[test]
    fn patterns() {
        let table = [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("a/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("%/c", "a/c", true),
            ("%/c", "a/b/c", false),
            ("*c", "a/b/c", true),
            ("inbox", "INBOX", true),
            ("inbox/%", "INBOX/x", true),
            ("INB*", "INBOX", true),
            ("a*b%c", "aXX/bYYc", true),
            ("a*b%c", "aXX/bY/c", false),
            ("", "", true),
            ("a", "ab", false),
            ("%%", "abc", true),
        ];
        for (pattern, name, want) in table {
            assert_eq!(pattern_matches(pattern, name, Some('/')), want, "{pattern} {name}");
        }
        assert!(pattern_matches("%", "a/b", None));
    }

    fn folders() -> Folders {
        let folder = |name: &str, subscribed, role| Folder {
            name: name.into(),
            delimiter: Some('/'),
            noselect: name == "G",
            noinferiors: false,
            subscribed,
            role,
        };
        Folders {
            list: vec![
                folder("INBOX", true, None),
                folder("G", false, None),
                folder("G/All", true, Some(Role::All)),
                folder("G/Spam", false, Some(Role::Junk)),
                folder("a/b/c", true, None),
                folder("x", false, None),
            ],
            delimiter: Some('/'),
            prefix: "".into(),
            dangling: vec!["gone/deep".into()],
        }
    }

    fn answer(command: &str) -> Vec<String> {
        let Ok(Tagged { command: Command::List(list), .. }) = parse::command(format!("a {command}").as_bytes()) else {
            panic!("{command}")
        };
        let lines = lines(&list, &folders());
        let text = lines.iter().map(|line| {
            let mut out = BytesMut::new();
            write_line(&mut out, list.kind, line);
            String::from_utf8_lossy(&out).trim_end().to_owned()
        });
        text.collect()
    }

    #[test]
    fn answers() {
        let table: [(&str, &[&str]); 15] = [
            ("LIST \"\" \"\"", &["* LIST (\\Noselect) \"/\" \"\""]),
            ("LIST a/b \"\"", &["* LIST (\\Noselect) \"/\" a/"]),
            (
                "LIST \"\" %",
                &[
                    "* LIST (\\HasNoChildren) \"/\" INBOX",
                    "* LIST (\\Noselect \\HasChildren) \"/\" G",
                    "* LIST (\\Noselect \\HasChildren) \"/\" a",
                    "* LIST (\\HasNoChildren) \"/\" x",
                ],
            ),
            (
                "LIST \"\" G/*",
                &["* LIST (\\HasNoChildren \\All) \"/\" G/All", "* LIST (\\HasNoChildren \\Junk) \"/\" G/Spam"],
            ),
            ("LIST G /All", &[]),
            ("LIST G/ %l", &["* LIST (\\HasNoChildren \\All) \"/\" G/All"]),
            ("LIST (SPECIAL-USE) \"\" *", &["* LIST (\\All) \"/\" G/All", "* LIST (\\Junk) \"/\" G/Spam"]),
            (
                "LIST \"\" (INBOX x) RETURN (SUBSCRIBED CHILDREN)",
                &["* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX", "* LIST (\\HasNoChildren) \"/\" x"],
            ),
            (
                "LIST (SUBSCRIBED) \"\" *",
                &[
                    "* LIST (\\Subscribed) \"/\" INBOX",
                    "* LIST (\\Subscribed) \"/\" G/All",
                    "* LIST (\\Subscribed) \"/\" a/b/c",
                    "* LIST (\\NonExistent \\Subscribed) \"/\" gone/deep",
                ],
            ),
            (
                "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %",
                &[
                    "* LIST (\\Subscribed) \"/\" INBOX",
                    "* LIST (\\Noselect) \"/\" G (\"CHILDINFO\" (\"SUBSCRIBED\"))",
                    "* LIST (\\NonExistent) \"/\" a (\"CHILDINFO\" (\"SUBSCRIBED\"))",
                    "* LIST (\\NonExistent) \"/\" gone (\"CHILDINFO\" (\"SUBSCRIBED\"))",
                ],
            ),
            (
                "LSUB \"\" *",
                &[
                    "* LSUB () \"/\" INBOX",
                    "* LSUB () \"/\" G/All",
                    "* LSUB () \"/\" a/b/c",
                    "* LSUB () \"/\" gone/deep",
                ],
            ),
            (
                "LSUB \"\" %",
                &[
                    "* LSUB () \"/\" INBOX",
                    "* LSUB (\\Noselect) \"/\" G",
                    "* LSUB (\\Noselect) \"/\" a",
                    "* LSUB (\\Noselect) \"/\" gone",
                ],
            ),
            ("LIST \"\" a/%", &["* LIST (\\Noselect \\HasChildren) \"/\" a/b"]),
            ("XLIST \"\" (inbox)", &["* XLIST (\\HasNoChildren \\Inbox) \"/\" INBOX"]),
            ("XLIST \"\" G/S%", &["* XLIST (\\HasNoChildren \\Spam) \"/\" G/Spam"]),
        ];
        for (command, want) in table {
            if command.contains("(inbox)") {
                // Lists of patterns belong to LIST; XLIST takes one.
                assert_eq!(answer("XLIST \"\" inbox"), want, "{command}");
                continue;
            }
            assert_eq!(answer(command), want, "{command}");
        }
    }
}
