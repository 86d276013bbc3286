//! APPEND, whose literals are streamed: the text in front of each, and what may follow the last.

use super::cursor::mailbox;
use super::{CommandError, Cursor, Fault, fault, store, tag};
use crate::model::{Flags, InternalDate};
use crate::wire::imap::command::AppendHead;

/// Reads the text in front of a message literal: `A1 APPEND box (\Seen) "date" ` and, for a further message of
/// MULTIAPPEND (RFC 3502), the flags and date behind the literal before it. `head` is as the framer gives it, with
/// or without the literal's `{n}`. The tag and mailbox come with the first.
///
/// `UTF8 (~{n}` (RFC 6855) and CATENATE are refused: neither is offered.
pub fn append_head(head: &[u8], first: bool) -> Result<(Option<(String, String)>, AppendHead), CommandError> {
    let (tag, rest) = tag(head)?;
    let error =
        |fault: Fault| CommandError { tag: Some(tag.to_owned()), text: format!("APPEND: {}", fault.0), unknown: false };
    let mut at = Cursor::new(rest);
    if first {
        let mailbox = destination(&mut at).map_err(error)?;
        let head = options(&mut at).map_err(error)?;
        return Ok((Some((tag.to_owned(), mailbox)), head));
    }
    // Behind the last literal, which stands in the head as `{0}` and a line end.
    let from = head.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut at = Cursor::new(head.get(from..).unwrap_or_default());
    Ok((None, options(&mut at).map_err(error)?))
}

/// Checks the whole message of an APPEND, given once all its literals are through: nothing may follow the last.
pub fn append_tail(message: &[u8]) -> Result<(), CommandError> {
    let (tag, _) = tag(message)?;
    let from = message.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if from > 0 && Cursor::new(message.get(from..).unwrap_or_default()).at_end() {
        return Ok(());
    }
    let text = "APPEND: unexpected text behind the message".to_owned();
    Err(CommandError { tag: Some(tag.to_owned()), text, unknown: false })
}

fn destination(at: &mut Cursor<'_>) -> Result<String, Fault> {
    at.space()?;
    if !at.eat_word("APPEND") {
        return fault("expected APPEND");
    }
    at.space()?;
    mailbox(&at.astring()?)
}

fn options(at: &mut Cursor<'_>) -> Result<AppendHead, Fault> {
    let mut head = AppendHead { flags: Flags::default(), date: None };
    at.skip_spaces();
    if at.peek() == Some(b'(') {
        head.flags = Flags::parse(store::flag_list(at)?.iter().map(String::as_str));
        at.skip_spaces();
    }
    if at.peek() == Some(b'"') {
        let date = at.astring()?;
        // Date, time and zone: without its zone a time says nothing (RFC 9051 `date-time`).
        let date = std::str::from_utf8(&date).ok().filter(|date| date.split_ascii_whitespace().count() == 3);
        head.date = date.and_then(InternalDate::parse);
        if head.date.is_none() {
            return fault("malformed date");
        }
        at.skip_spaces();
    }
    if at.at_end() || is_marker(at.rest()) {
        return Ok(head);
    }
    if at.eat_word("UTF8") || at.eat_word("CATENATE") {
        return fault("not offered here");
    }
    fault("expected flags, a date or the message literal")
}

/// The `{n}` of the literal itself.
fn is_marker(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"~").unwrap_or(text).trim_ascii_end();
    let inner = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    inner.map(|inner| inner.strip_suffix(b"+").unwrap_or(inner)).is_some_and(|n| n.iter().all(u8::is_ascii_digit))
}
