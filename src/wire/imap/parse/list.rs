//! LIST, LSUB, XLIST, STATUS and CREATE.

use super::cursor::mailbox;
use super::{Cursor, Fault, fault};
use crate::model::Role;
use crate::wire::imap::command::{Command, List, ListKind, ListReturn, ListSelect, StatusItem};

/// Most patterns in one LIST: each is matched against every mailbox.
const MAX_PATTERNS: usize = 64;
/// Most options or items in one list; fewer exist.
const MAX_OPTIONS: usize = 64;

/// RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154; LSUB and XLIST take no options.
pub(super) fn list(at: &mut Cursor<'_>, name: &str) -> Result<Command, Fault> {
    let kind = match name {
        "LSUB" => ListKind::Lsub,
        "XLIST" => ListKind::Xlist,
        _ => ListKind::List,
    };
    let options = kind == ListKind::List;
    let mut list = List {
        kind,
        reference: String::new(),
        patterns: Vec::new(),
        select: ListSelect::default(),
        returns: ListReturn::default(),
        extended: false,
    };
    at.space()?;
    if options && at.peek() == Some(b'(') {
        list.extended = true;
        at.list(MAX_OPTIONS, |at| selection(at, &mut list.select))?;
        let ListSelect { subscribed, special_use, recursive_match, .. } = list.select;
        // RFC 5258 §3: RECURSIVEMATCH modifies another selection and means nothing alone.
        if recursive_match && !subscribed && !special_use {
            return fault("RECURSIVEMATCH needs another selection option");
        }
        at.space()?;
    }
    list.reference = mailbox(&at.astring()?)?;
    at.space()?;
    if options && at.peek() == Some(b'(') {
        list.extended = true;
        at.list(MAX_PATTERNS, |at| {
            list.patterns.push(mailbox(&at.pattern()?)?);
            Ok(())
        })?;
    } else {
        list.patterns.push(mailbox(&at.pattern()?)?);
    }
    at.skip_spaces();
    if options && at.eat_word("RETURN") {
        list.extended = true;
        at.space()?;
        at.list(MAX_OPTIONS, |at| returned(at, &mut list.returns))?;
    }
    Ok(Command::List(list))
}

fn selection(at: &mut Cursor<'_>, select: &mut ListSelect) -> Result<(), Fault> {
    match at.word()?.to_ascii_uppercase().as_str() {
        "SUBSCRIBED" => select.subscribed = true,
        "REMOTE" => select.remote = true,
        "RECURSIVEMATCH" => select.recursive_match = true,
        "SPECIAL-USE" => select.special_use = true,
        _ => return fault("unknown selection option"),
    }
    Ok(())
}

fn returned(at: &mut Cursor<'_>, returns: &mut ListReturn) -> Result<(), Fault> {
    match at.word()?.to_ascii_uppercase().as_str() {
        "SUBSCRIBED" => returns.subscribed = true,
        "CHILDREN" => returns.children = true,
        "SPECIAL-USE" => returns.special_use = true,
        "STATUS" => {
            at.skip_spaces();
            returns.status = items(at)?;
        }
        _ => return fault("unknown return option"),
    }
    Ok(())
}

pub(super) fn status(at: &mut Cursor<'_>) -> Result<Command, Fault> {
    let mailbox = at.spaced_mailbox()?;
    at.space()?;
    Ok(Command::Status { mailbox, items: items(at)? })
}

fn items(at: &mut Cursor<'_>) -> Result<Vec<StatusItem>, Fault> {
    let mut items = Vec::new();
    at.list(MAX_OPTIONS, |at| {
        let item = match at.word()?.to_ascii_uppercase().as_str() {
            "MESSAGES" => StatusItem::Messages,
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
            "SIZE" => StatusItem::Size,
            "DELETED" => StatusItem::Deleted,
            "APPENDLIMIT" => StatusItem::AppendLimit,
            _ => return fault("unknown status item"),
        };
        if !items.contains(&item) {
            items.push(item);
        }
        Ok(())
    })?;
    if items.is_empty() { fault("no status items") } else { Ok(items) }
}

/// `CREATE box [(USE (\Drafts))]` (RFC 6154 §3).
pub(super) fn create(at: &mut Cursor<'_>) -> Result<Command, Fault> {
    let mailbox = at.spaced_mailbox()?;
    let mut role = None;
    at.skip_spaces();
    if at.peek() == Some(b'(') {
        at.list(MAX_OPTIONS, |at| {
            if !at.eat_word("USE") {
                return fault("unknown parameter");
            }
            at.skip_spaces();
            at.list(MAX_OPTIONS, |at| {
                at.expect(b'\\')?;
                let attribute = format!("\\{}", at.word()?);
                let Some(found) = Role::from_attribute(&attribute) else { return fault("unknown special use") };
                // One mailbox has one use here; RFC 6154 lets a server refuse more.
                if role.replace(found).is_some_and(|before| before != found) {
                    return fault("only one special use for a mailbox");
                }
                Ok(())
            })
        })?;
    }
    Ok(Command::Create { mailbox, role })
}
